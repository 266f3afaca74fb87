package rpccli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/virtual-disk-array/vda/spdk"
)

// Two commands are no methods, here as in rpc.py, but many calls: save_config
// asks each part of a data plane for what configures it, load_config carries
// that out.

// config is a file of save_config.
type config struct {
	Subsystems []subsystem `json:"subsystems"`
}

type subsystem struct {
	Name   string       `json:"subsystem"`
	Config []configCall `json:"config"`
}

type configCall struct {
	Method string          `json:"method"`
	Params json.RawMessage `json:"params,omitempty"`
}

// saveConfig prints what configures the data plane as it is now.
func saveConfig(ctx context.Context, c *spdk.Client) (json.RawMessage, error) {
	var parts []struct {
		Name string `json:"subsystem"`
	}
	if err := c.Call(ctx, "framework_get_subsystems", nil, &parts); err != nil {
		return nil, err
	}
	all := config{Subsystems: []subsystem{}}
	for _, p := range parts {
		s := subsystem{Name: p.Name, Config: []configCall{}}
		params := map[string]string{"name": p.Name}
		if err := c.Call(ctx, "framework_get_config", params, &s.Config); err != nil {
			return nil, err
		}
		all.Subsystems = append(all.Subsystems, s)
	}
	return json.Marshal(all)
}

// loadConfig carries out a file of saveConfig, "-" for standard input. A data
// plane in the start-up state gets what is for it, and is started.
func (m Main) loadConfig(ctx context.Context, c *spdk.Client, path string) error {
	text, err := m.readAll(path)
	if err != nil {
		return usagef("%v", err)
	}
	var all config
	if err := json.Unmarshal(text, &all); err != nil {
		return usagef("%s is not a file of save_config: %v", path, err)
	}
	var left []configCall
	for _, s := range all.Subsystems {
		left = append(left, s.Config...)
	}
	known, err := c.GetMethods(ctx, false)
	if err != nil {
		return err
	}
	for _, call := range left {
		if !slices.Contains(known, call.Method) {
			return usagef("%s: the data plane has no method %s; nothing was changed", path, call.Method)
		}
	}
	for {
		now, err := c.GetMethods(ctx, true)
		if err != nil {
			return err
		}
		var later []configCall
		for _, call := range left {
			if !slices.Contains(now, call.Method) {
				later = append(later, call)
				continue
			}
			var params any
			if call.Params != nil {
				params = call.Params
			}
			if err := c.Call(ctx, call.Method, params, nil); err != nil {
				return fmt.Errorf("%s %s: %w", call.Method, call.Params, err)
			}
		}
		left = later
		if !slices.Contains(now, "framework_start_init") {
			break
		}
		if err := c.FrameworkStartInit(ctx); err != nil {
			return err
		}
		if err := c.FrameworkWaitInit(ctx); err != nil {
			return err
		}
	}
	if len(left) > 0 {
		fmt.Fprintf(m.Stderr, "vda_rpc: %d calls for the start-up state, which is over, were left out, %s the first\n", len(left),
			left[0].Method)
	}
	return nil
}

func (m Main) readAll(path string) ([]byte, error) {
	if path == "-" {
		return io.ReadAll(m.Stdin)
	}
	return os.ReadFile(path)
}
