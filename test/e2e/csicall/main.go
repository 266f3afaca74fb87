// Csicall makes calls of a CSI driver, as kubelet and the sidecars do:
//
//	csicall SOCKET METHOD JSON
//
// prints the reply as JSON, or the error, with exit status 1.
//
//	csicall walk METHOD JSON
//
// makes a call of the Node service of plugins of its own, each of which dies at the first step
// at which none before it has died, until a call comes to its end. It prints the steps, one a
// line, and then the reply.
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
	err := fmt.Errorf("usage: csicall SOCKET METHOD JSON, or csicall walk METHOD JSON")
	switch {
	case len(os.Args) == 3 && os.Args[1] == pluginArg:
		err = plugin(os.Args[2])
	case len(os.Args) == 4 && os.Args[1] == "walk":
		err = walk(os.Args[2], os.Args[3])
	case len(os.Args) == 4:
		var reply string
		if reply, err = call(os.Args[1], os.Args[2], os.Args[3]); err == nil {
			fmt.Println(reply)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// call makes a call, and returns the reply as JSON.
func call(socket, method, text string) (string, error) {
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return "", err
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
		return "", fmt.Errorf("there is no method %s of %s", method, service)
	}
	req, reply := dynamicpb.NewMessage(m.Input()), dynamicpb.NewMessage(m.Output())
	if err := protojson.Unmarshal([]byte(text), req); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := conn.Invoke(ctx, "/csi.v1."+service+"/"+method, req, reply); err != nil {
		return "", err
	}
	b, err := protojson.Marshal(reply)
	return string(b), err
}
