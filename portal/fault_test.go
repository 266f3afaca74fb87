package portal_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/portal"
	"github.com/virtual-disk-array/vda/portal/portaltest"
	"github.com/virtual-disk-array/vda/reason"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/store/dbtest"
)

// sickStore fails some of its updates, as a database does that has something
// the matter with it: pass of them pass, then fail of them fail.
type sickStore struct {
	store.Store
	pass, fail atomic.Int64
}

func (s *sickStore) Update(ctx context.Context, fn func(store.Tx) error) error {
	if s.pass.Add(-1) < 0 && s.fail.Add(-1) >= 0 {
		return &vda.Error{Kind: vda.Unavailable, Op: reason.OpDatabase, Object: "postgresql 10.0.0.1:5432/vda_db",
			Msg: "has no space left on its disk"}
	}
	return s.Store.Update(ctx, fn)
}

// TestDatabaseFaultIsNotTheNodes: when the database cannot keep what a node
// has answered, no node is shown in error for it, and arrays are placed on it
// as soon as the database is well.
func TestDatabaseFaultIsNotTheNodes(t *testing.T) {
	c := portaltest.New(t)
	sick := &sickStore{Store: c.Store}
	c.Store = sick
	client := c.Client()
	c.Populate(client, 2, 2)
	sick.pass.Store(1) // the array's rows are written; what its dn answers is not
	sick.fail.Store(1)
	r := must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da0", DaSize: 1 << 20, CntlrCnt: 2}))
	if msg := r.ReplyInfo.ReplyMsg; !strings.Contains(msg, "the database has no space left on its disk") ||
		!strings.Contains(msg, "not known whether") || strings.Contains(msg, "10.0.0.1") {
		t.Errorf("reply %q", msg)
	}
	sick.fail.Store(1)
	_, err := client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da1", DaSize: 1 << 20, CntlrCnt: 2})
	refusal(t, err, codes.Unavailable, 11, "the database has no space left on its disk")
	if strings.Contains(err.Error(), "10.0.0.1") || strings.Contains(err.Error(), "vda_db") {
		t.Errorf("users are told where the database is: %v", err)
	}
	if cns := must[*apiv1.ListCnReply](t)(client.ListCn(ctx, &apiv1.ListCnRequest{Error: ptr(true)})).CnMsgList; len(cns) != 0 {
		t.Errorf("cns in error: %v", cns)
	}
	if dns := must[*apiv1.ListDnReply](t)(client.ListDn(ctx, &apiv1.ListDnRequest{Error: ptr(true)})).DnMsgList; len(dns) != 0 {
		t.Errorf("dns in error: %v", dns)
	}
	if r := must[*apiv1.CreateDaReply](t)(client.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da1", DaSize: 1 << 20,
		CntlrCnt: 2})); r.ReplyInfo.ReplyMsg != "success" {
		t.Errorf("with the database well: %v", r.ReplyInfo)
	}
}

// TestDatabaseHangs stops the database's processes: requests end in the
// caller's time, with the portal's own words and no blame on a node.
func TestDatabaseHangs(t *testing.T) {
	t.Setenv("VDA_TEST_POSTGRES", "")
	srv, uri := dbtest.Postgres(t)
	c := portaltest.On(t, uri)
	client := c.Client(func(cfg *portal.Config) { cfg.HealthPeriod = time.Hour })
	c.Populate(client, 1, 1)
	wake := srv.Hang()
	defer wake()
	// The portal answers a second before, which a busy machine may need.
	short, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	read, write := make(chan error, 1), make(chan error, 1)
	go func() { _, err := client.GetDn(short, &apiv1.GetDnRequest{DnName: "dn0:9720"}); read <- err }()
	go func() {
		_, err := client.ModifyDn(short, &apiv1.ModifyDnRequest{DnName: "dn0:9720", NewOnline: ptr(false)})
		write <- err
	}()
	for _, err := range []error{<-read, <-write} {
		refusal(t, err, codes.Unavailable, 11, "the database does not answer in time")
		for _, secret := range []string{"vda_user", "127.0.0.1", "vda_db"} {
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("%q is in %v", secret, err)
			}
		}
	}
	wake()
	await(t, func() bool {
		r, err := client.GetCn(ctx, &apiv1.GetCnRequest{CnName: "cn0:9820"})
		return err == nil && !r.CnMsg.Error
	})
}

// TestAnswersBeforeItsCaller: a request that takes too long ends with the
// portal's words, not with its caller's clock.
func TestAnswersBeforeItsCaller(t *testing.T) {
	t.Parallel()
	c := portaltest.New(t)
	slow := &slowStore{Store: c.Store}
	client := c.Client(func(cfg *portal.Config) { cfg.Store = slow })
	// The portal answers a second before, which a busy machine may need.
	short, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	_, err := client.GetDa(short, &apiv1.GetDaRequest{DaName: "da0"})
	refusal(t, err, codes.DeadlineExceeded, 13, "took too long")
}

// slowStore waits until the request is over.
type slowStore struct{ store.Store }

func (s *slowStore) View(ctx context.Context, fn func(store.Reader) error) error {
	<-ctx.Done()
	return ctx.Err()
}
