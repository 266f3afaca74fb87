package rpc

import (
	"context"
	"crypto/rand"
	"encoding/hex"
)

// idKey is the metadata key of a request's id, in requests and replies, and the
// HTTP header that other software uses for the same purpose.
const idKey = "x-request-id"

// maxID bounds a request id that a client made, in bytes.
const maxID = 64

type requestIDKey struct{}

// RequestID is the id of the request that ctx belongs to, "" for none. Clients
// made by Dial send it on, so one id finds a user's request in the logs of the
// portal and of every agent that it reached.
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}

// WithRequestID returns a context whose calls carry id.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestIDKey{}, id)
}

// NewRequestID makes an id: 32 random hex digits.
func NewRequestID() string {
	var id [16]byte
	rand.Read(id[:]) // never fails
	return hex.EncodeToString(id[:])
}

// validID reports that a client's id may be logged and sent on: 1 to maxID
// letters, digits, dots, dashes and underscores.
func validID(id string) bool {
	for i := range len(id) {
		switch c := id[i]; {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return id != "" && len(id) <= maxID
}
