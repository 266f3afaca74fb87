package vdatgt

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"syscall"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/module/raid"
	"github.com/virtual-disk-array/vda/spdk/jsonrpc"
)

func raidMethods() []*Method {
	return []*Method{
		method("bdev_raid_create", "Joins bdevs; one that is missing is waited for.", raidCreate, raidStyle, slow),
		method("bdev_raid_delete", "Takes an array apart; its bases keep their data.", raidDelete, slow),
		method("vda_raid_append", "Puts one more base behind those of a concat, which grows while it is in use. Does nothing when the base is "+
			"the array's already.", raidAppend, slow),
		method("bdev_raid_get_bdevs", "Lists the arrays of a category.", raidList, raidStyle),
	}
}

type raidCreateParams struct {
	Name       string     `rpc:"name" doc:"name of the array"`
	StripSize  uint32     `rpc:"strip_size_kb,optional" doc:"KiB, a power of two"`
	Level      string     `rpc:"raid_level" doc:"raid0 or concat (also 0)"`
	BaseBdevs  []string   `rpc:"base_bdevs" doc:"names of the bases, in order"`
	UUID       *uuid.UUID `rpc:"uuid,optional" doc:"default: a random one"`
	Superblock bool       `rpc:"superblock,optional" doc:"only false"`
}

func raidCreate(ctx context.Context, t *Target, p raidCreateParams) (any, error) {
	level := raid.Level(p.Level)
	switch p.Level {
	case "raid0", "0":
		level = raid.Raid0
	case "concat":
	default:
		return nil, &jsonrpc.Error{Code: jsonrpc.CodeParseError, Message: "spdk_json_decode_object failed",
			Data: fmt.Sprintf("raid_level %q is neither raid0 nor concat", p.Level)}
	}
	if p.Superblock {
		return nil, raidError(p.Name, fmt.Errorf("superblock true is not supported: %w", syscall.EINVAL))
	}
	_, err := t.raids.Create(raid.Config{Name: p.Name, UUID: orNil(p.UUID), Level: level, StripSizeKB: p.StripSize, Bases: p.BaseBdevs})
	if err != nil {
		return nil, raidError(p.Name, err)
	}
	if err := t.examines.waitAppeared(ctx); err != nil {
		return nil, err
	}
	return true, nil
}

// raidError words an error as SPDK's bdev_raid_create does.
func raidError(name string, err error) error {
	e := jsonrpc.AsError(err)
	return &jsonrpc.Error{Code: e.Code, Message: fmt.Sprintf("Failed to create RAID bdev %s: %s", name, e.Message), Data: e.Data}
}

func raidDelete(_ context.Context, t *Target, p raidDeleteParams) (any, error) {
	if err := t.raids.Delete(p.Name); err != nil {
		if errors.Is(err, syscall.ENODEV) {
			return nil, &jsonrpc.Error{Code: -int(syscall.ENODEV), Message: fmt.Sprintf("raid bdev %s not found", p.Name)}
		}
		return nil, err
	}
	return true, nil
}

type raidDeleteParams struct {
	Name    string `rpc:"name" doc:"name of the array"`
	ClearSB bool   `rpc:"clear_sb,optional" doc:"clear the superblocks; there are none"`
}

type raidAppendParams struct {
	Name string `rpc:"name" doc:"name of the array"`
	Base string `rpc:"base_bdev" doc:"name of the base"`
	Dry  bool   `rpc:"dry_run,optional" doc:"only tell whether it can be done"`
}

func raidAppend(_ context.Context, t *Target, p raidAppendParams) (any, error) {
	if err := t.raids.Append(p.Name, p.Base, p.Dry); err != nil {
		return nil, err
	}
	return true, nil
}

type raidListParams struct {
	Category string `rpc:"category" doc:"all, online, configuring or offline"`
}

func raidList(_ context.Context, t *Target, p raidListParams) (any, error) {
	switch p.Category {
	case "all", "online", "configuring", "offline":
	default:
		return nil, &jsonrpc.Error{Code: jsonrpc.CodeParseError, Message: "spdk_json_decode_object failed",
			Data: fmt.Sprintf("category %q must be one of all, online, configuring, offline", p.Category)}
	}
	out := []raidJSON{}
	for _, a := range t.raids.Arrays(p.Category) {
		out = append(out, raidJSON(a))
	}
	return out, nil
}

// raidJSON writes the array's uuid twice, as SPDK does.
type raidJSON raid.Status

// MarshalJSON implements json.Marshaler.
func (r raidJSON) MarshalJSON() ([]byte, error) {
	whole, err := json.Marshal(raid.Status(r))
	if err != nil {
		return nil, err
	}
	id := []byte(`"uuid":"` + r.UUID.String() + `",`)
	return bytes.Replace(whole, id, append(id, id...), 1), nil
}
