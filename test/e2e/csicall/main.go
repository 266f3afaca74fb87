// Csicall makes a call of a CSI driver, as kubelet and the sidecars do:
//
//	csicall SOCKET METHOD JSON
//
// It prints the reply as JSON, or the error, with exit status 1.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: csicall SOCKET METHOD JSON")
		os.Exit(2)
	}
	if err := call(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func call(socket, method, text string) error {
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	service := "Controller"
	switch {
	case strings.HasPrefix(method, "Node"):
		service = "Node"
	case method == "Probe" || strings.HasPrefix(method, "GetPlugin"):
		service = "Identity"
	}
	m := csi.File_csi_proto.Services().ByName(protoreflect.Name(service)).Methods().ByName(protoreflect.Name(method))
	if m == nil {
		return fmt.Errorf("there is no method %s of %s", method, service)
	}
	req, reply := dynamicpb.NewMessage(m.Input()), dynamicpb.NewMessage(m.Output())
	if err := protojson.Unmarshal([]byte(text), req); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := conn.Invoke(ctx, "/csi.v1."+service+"/"+method, req, reply); err != nil {
		return err
	}
	b, err := protojson.Marshal(reply)
	fmt.Println(string(b))
	return err
}
