package controller

import (
	"context"
	"log/slog"
	"strings"
	"sync"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/client"
	"github.com/virtual-disk-array/vda/csi/volume"
	"github.com/virtual-disk-array/vda/pki"
)

// Config of a Controller.
type Config struct {
	// Portals of volumes whose StorageClass names none, host:port.
	Portals []string
	// Token of the driver's user, nil in a plain cluster. A secret with one goes first.
	Token *pki.UserToken
	// Client makes the client of portals. Default client.New.
	Client func(client.Config) (*client.Client, error)
	Log    *slog.Logger
}

// Controller implements the services Controller and GroupController. Safe for concurrent use.
type Controller struct {
	csi.UnimplementedControllerServer
	csi.UnimplementedGroupControllerServer
	cfg Config

	mu      sync.Mutex
	clients map[where]*client.Client
}

// where is how portals are called.
type where struct{ portals, secret string }

// New makes a Controller; Close ends it.
func New(cfg Config) (*Controller, error) {
	if cfg.Client == nil {
		cfg.Client = client.New
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	c := &Controller{cfg: cfg, clients: map[where]*client.Client{}}
	_, err := c.portals("", nil)
	return c, err
}

// Close closes all connections to portals.
func (c *Controller) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.clients {
		_ = p.Close() // nothing is under way that anyone waits for
	}
	c.clients = map[where]*client.Client{}
}

// tokenKey is where a secret has the token of a user with the role csi.
const tokenKey = "token"

// portals returns the client of portals, those of the driver for "", with the token that
// a secret has, or else the driver's.
func (c *Controller) portals(list string, secrets map[string]string) (*client.Client, error) {
	token := c.cfg.Token
	if text := secrets[tokenKey]; text != "" {
		t, err := pki.ParseUserToken(strings.TrimSpace(text))
		if err != nil {
			return nil, refuse(codes.InvalidArgument, "secrets: token is not what vda_db --action user has printed")
		}
		token = &t
	}
	at := where{portals: list}
	cfg := client.Config{Portals: c.cfg.Portals}
	if list != "" {
		cfg.Portals = strings.Split(list, ",")
	}
	if token != nil {
		at.secret = token.Secret
		cfg.Secure(*token)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.clients[at]; p != nil {
		return p, nil
	}
	p, err := c.cfg.Client(cfg)
	if err != nil {
		return nil, statusOf(err)
	}
	c.clients[at] = p
	return p, nil
}

// array is a volume's, as its portals have it.
type array struct {
	*apiv1.DaMsg
	id     volume.ID
	portal *client.Client
}

// find returns the array of a volume. The error is NotFound for one that there is not,
// or that the driver has not made.
func (c *Controller) find(ctx context.Context, volumeID string, secrets map[string]string) (*array, error) {
	a, err := c.named(ctx, volumeID, secrets)
	if err == nil && label(a.LabelList, volume.RequestLabel) == "" {
		return nil, refuse(codes.NotFound, "there is no volume %q: the array of that name was not made by this driver, as it has no label %s",
			volumeID, volume.RequestLabel)
	}
	return a, err
}

// named is find that takes any array, also one that has lost the driver's label.
func (c *Controller) named(ctx context.Context, volumeID string, secrets map[string]string) (*array, error) {
	if volumeID == "" {
		return nil, refuse(codes.InvalidArgument, "volume_id is missing")
	}
	id, ok := volume.ParseID(volumeID)
	if !ok {
		return nil, refuse(codes.NotFound, "there is no volume %q", vda.Shorten(volumeID, 150))
	}
	p, err := c.portals(id.Portals, secrets)
	if err != nil {
		return nil, err
	}
	reply, err := p.GetDa(ctx, &apiv1.GetDaRequest{DaName: id.Array})
	if err != nil {
		return nil, statusOf(err)
	}
	return &array{reply.DaMsg, id, p}, nil
}

// label is the value of a label, "" for none.
func label(list []string, key string) string {
	for _, l := range list {
		if value, ok := strings.CutPrefix(l, key+"="); ok {
			return value
		}
	}
	return ""
}

// ControllerGetCapabilities says what the service can do.
func (c *Controller) ControllerGetCapabilities(context.Context, *csi.ControllerGetCapabilitiesRequest) (
	*csi.ControllerGetCapabilitiesResponse, error) {
	reply := &csi.ControllerGetCapabilitiesResponse{}
	for _, t := range capabilities {
		reply.Capabilities = append(reply.Capabilities, &csi.ControllerServiceCapability{Type: &csi.ControllerServiceCapability_Rpc{
			Rpc: &csi.ControllerServiceCapability_RPC{Type: t}}})
	}
	return reply, nil
}

var capabilities = []csi.ControllerServiceCapability_RPC_Type{
	csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME,
	csi.ControllerServiceCapability_RPC_PUBLISH_UNPUBLISH_VOLUME,
	csi.ControllerServiceCapability_RPC_PUBLISH_READONLY,
	csi.ControllerServiceCapability_RPC_LIST_VOLUMES,
	csi.ControllerServiceCapability_RPC_LIST_VOLUMES_PUBLISHED_NODES,
	csi.ControllerServiceCapability_RPC_GET_VOLUME,
	csi.ControllerServiceCapability_RPC_GET_VOLUME_HEALTH,
	csi.ControllerServiceCapability_RPC_LIST_VOLUME_HEALTH,
	csi.ControllerServiceCapability_RPC_GET_CAPACITY,
	csi.ControllerServiceCapability_RPC_CREATE_DELETE_SNAPSHOT,
	csi.ControllerServiceCapability_RPC_LIST_SNAPSHOTS,
	csi.ControllerServiceCapability_RPC_GET_SNAPSHOT,
	csi.ControllerServiceCapability_RPC_CLONE_VOLUME,
	csi.ControllerServiceCapability_RPC_EXPAND_VOLUME,
	csi.ControllerServiceCapability_RPC_MODIFY_VOLUME,
	csi.ControllerServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
}
