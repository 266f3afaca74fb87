package client_test

import (
	"context"
	"fmt"
	"log"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/client"
)

// An array for a host, as a CSI driver would make it: each step may be
// repeated.
func Example() {
	ctx := context.Background()
	c, err := client.New(client.Config{Portals: []string{"192.168.0.11:9520", "192.168.0.12:9520"}})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	_, err = c.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da0", DaSize: 32 << 20, CntlrCnt: 2,
		DaConf: client.DaConf{StripeCount: 2}.String()})
	switch {
	case err == nil, client.CodeOf(err) == apiv1.CodeIdentical:
	case vda.KindOf(err) == vda.ResourceExhausted:
		log.Fatalf("add disks or controller nodes: %v", err)
	default:
		log.Fatal(err)
	}
	_, err = c.CreateExp(ctx, &apiv1.CreateExpRequest{DaName: "da0", ExpName: "exp0", InitiatorNqn: "nqn.2016-06.io.spdk:host0"})
	if err != nil && client.CodeOf(err) != apiv1.CodeIdentical {
		log.Fatal(err)
	}
	exp, err := c.GetExp(ctx, &apiv1.GetExpRequest{DaName: "da0", ExpName: "exp0"})
	if err != nil {
		log.Fatal(err)
	}
	for _, es := range exp.ExpMsg.EsMsgList {
		fmt.Println(exp.ExpMsg.ExpNqn, es.CnListenerConf, es.Error)
	}
}

// All arrays that are in error, however many pages the list has.
func ExampleClient_Das() {
	c, err := client.New(client.Config{Portals: []string{"192.168.0.11:9520"}})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	inError := true
	for da, err := range c.Das(context.Background(), &apiv1.ListDaRequest{Error: &inError}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(da.DaName, da.ErrorMsg)
	}
}

// A disk, and what a portal says when its node does not answer.
func ExampleNote() {
	c, err := client.New(client.Config{Portals: []string{"192.168.0.11:9520"}})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	reply, err := c.CreatePd(context.Background(), &apiv1.CreatePdRequest{DnName: "192.168.0.14:9720", PdName: "pd0",
		PdConf: client.PdConf{Type: "aio", Filename: "/dev/sdb"}.String()})
	if err != nil {
		log.Fatal(err)
	}
	if note := client.Note(reply); note != "" {
		log.Print(note) // the pd exists; a monitor goes on trying
	}
}

func ExamplePdConf() {
	fmt.Println(client.PdConf{Type: "malloc", Size: 128 << 20})
	// Output: {"type":"malloc","size":134217728}
}
