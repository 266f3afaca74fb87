package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/grpc-ecosystem/grpc-gateway/v2/utilities"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/virtual-disk-array/vda"
	gateway "github.com/virtual-disk-array/vda/api/gateway/v1"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// newREST serves the portal's methods as api/v1/portal.http.yaml places them.
// Replies are those of gRPC, with all fields and their names in the .proto file; a
// refused call has the HTTP status of its gRPC code and {"reply_info": …}.
func newREST(portal apiv1.PortalClient) http.Handler {
	mux := runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, &strictJSON{runtime.JSONPb{
			MarshalOptions: protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}}}),
		// An escaped slash is part of a name, which then does not exist.
		runtime.WithUnescapingMode(runtime.UnescapingModeAllExceptSlash),
		runtime.WithErrorHandler(answerError),
		runtime.WithMiddlewares(oneName),
		runtime.WithRoutingErrorHandler(noRoute),
		runtime.WithIncomingHeaderMatcher(func(string) (string, bool) { return "", false }),
		runtime.WithOutgoingHeaderMatcher(func(string) (string, bool) { return "", false }),
		// The mux makes the calls' metadata new: whose they are goes with them.
		runtime.WithMetadata(func(ctx context.Context, r *http.Request) metadata.MD {
			whose, _ := metadata.FromOutgoingContext(ctx)
			return metadata.Join(whose, metadata.Pairs("x-request-id", r.Header.Get("X-Request-Id")))
		}),
	)
	useStrictQuery()
	if err := gateway.RegisterPortalHandlerClient(context.Background(), mux, portal); err != nil {
		panic(err) // a generated path is malformed
	}
	return mux
}

// useStrictQuery sets the parser of queries, which is one for all muxes of a
// process, once: a mux that sets it again races with the requests of another.
var useStrictQuery = sync.OnceFunc(func() { runtime.SetQueryParameterParser(strictQuery{})(nil) })

// strictJSON reads bodies; one that is not the request's message is an error in
// our words.
type strictJSON struct{ runtime.JSONPb }

// NewDecoder implements runtime.Marshaler.
func (j *strictJSON) NewDecoder(r io.Reader) runtime.Decoder {
	return runtime.DecoderFunc(func(v any) error {
		b, err := io.ReadAll(r)
		var long *http.MaxBytesError
		switch {
		case errors.As(err, &long):
			return fmt.Errorf("the body has more than %d bytes, and none that makes sense has more than a few KiB", long.Limit)
		case err != nil:
			return errors.New("the body did not arrive whole")
		case len(b) == 0:
			return nil
		}
		m, ok := v.(proto.Message)
		if !ok {
			return errors.New("the body is of a kind that no method takes")
		}
		if err := protojson.Unmarshal(b, m); err != nil {
			return errors.New("the body is not this request as JSON: " + spoken(m, err.Error())) // reason: spoken puts it in our words
		}
		return nil
	})
}

// oneName refuses a request whose body or query gives a field of its path another value: which one
// is meant, nobody knows.
func oneName(next runtime.HandlerFunc) runtime.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request, inPath map[string]string) {
		for field, value := range inPath {
			for _, other := range r.URL.Query()[field] {
				if other != value {
					refuse(w, http.StatusBadRequest, "%s is %q in the path and %q in the query; give it in the path alone", field,
						vda.Shorten(value, 70), vda.Shorten(other, 70))
					return
				}
			}
		}
		if len(inPath) == 0 || r.Body == nil {
			next(w, r, inPath)
			return
		}
		text, err := io.ReadAll(r.Body)
		r.Body = io.NopCloser(io.MultiReader(bytes.NewReader(text), failing{err})) // who decodes it tells what is wrong
		var body map[string]json.RawMessage
		if err == nil && json.Unmarshal(text, &body) == nil {
			for field, value := range inPath {
				for _, key := range []string{field, jsonName(field)} {
					var other string
					if raw, is := body[key]; is && json.Unmarshal(raw, &other) == nil && other != "" && other != value {
						refuse(w, http.StatusBadRequest, "%s is %q in the path and %q in the body; give it in the path alone", field,
							vda.Shorten(value, 70), vda.Shorten(other, 70))
						return
					}
				}
			}
		}
		next(w, r, inPath)
	}
}

// failing is a reader that has nothing but an error; io.EOF for none.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) {
	if f.err == nil {
		return 0, io.EOF
	}
	return 0, f.err
}

// jsonName is the other name that a field may have in JSON: daName for da_name.
func jsonName(field string) string {
	words := strings.Split(field, "_")
	for i := 1; i < len(words); i++ {
		if words[i] != "" {
			words[i] = strings.ToUpper(words[i][:1]) + words[i][1:]
		}
	}
	return strings.Join(words, "")
}

// position is where protojson says that something is wrong.
var position = regexp.MustCompile(`^(?:syntax error )?\(line (\d+):(\d+)\): `)

// spoken is what protojson says of a message's body, without its prefix, with the
// place as people say it and fields under the names that the documents have.
func spoken(m proto.Message, text string) string {
	text = strings.TrimSpace(strings.TrimPrefix(strings.ReplaceAll(text, "\u00a0", " "), "proto:"))
	text = position.ReplaceAllString(text, "line $1, column $2: ")
	fields := m.ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		text = strings.Replace(text, "field "+f.JSONName()+":", "field "+string(f.Name())+":", 1)
	}
	return vda.Shorten(text, 300)
}

// strictQuery reads the fields of a request from a URL's query; one that the
// request does not have is an error.
type strictQuery struct{ runtime.DefaultQueryParser }

// Parse implements runtime.QueryParameterParser.
func (q strictQuery) Parse(m proto.Message, values url.Values, filter *utilities.DoubleArray) error {
	fields := m.ProtoReflect().Descriptor().Fields()
	for key, texts := range values {
		f := fieldOf(m.ProtoReflect().Descriptor(), key)
		if f == nil {
			return fmt.Errorf("query: there is no %q in this request; there is %s", vda.Shorten(key, 40), fieldNames(fields))
		}
		one := url.Values{key: texts}
		if err := q.DefaultQueryParser.Parse(m, one, filter); err != nil || len(texts) != 1 && !f.IsList() {
			return fmt.Errorf("query: %s is %q; it must be %s", key, vda.Shorten(strings.Join(texts, ", "), 40), kindName(f))
		}
	}
	return nil
}

// fieldOf is the field that a key of a query names, with dots before those of
// messages in messages; nil when there is none.
func fieldOf(m protoreflect.MessageDescriptor, key string) protoreflect.FieldDescriptor {
	name, rest, deeper := strings.Cut(key, ".")
	f := m.Fields().ByName(protoreflect.Name(name))
	switch {
	case f == nil || !deeper:
		return f
	case f.Message() == nil:
		return nil
	}
	return fieldOf(f.Message(), rest)
}

func fieldNames(fields protoreflect.FieldDescriptors) string {
	var names []string
	for i := range fields.Len() {
		names = append(names, string(fields.Get(i).Name()))
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

func kindName(f protoreflect.FieldDescriptor) string {
	switch f.Kind() {
	case protoreflect.BoolKind:
		return "true or false"
	case protoreflect.Uint32Kind, protoreflect.Uint64Kind:
		return "one whole number from 0 on"
	}
	return "one " + f.Kind().String()
}

// answerError answers a call that was refused, by the portal or before.
func answerError(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, _ *http.Request, err error) {
	st := status.Convert(err)
	for _, d := range st.Details() {
		if info, ok := d.(*apiv1.ReplyInfo); ok {
			answer(w, runtime.HTTPStatusFromCode(st.Code()), info)
			return
		}
	}
	code := apiv1.CodeInternal
	if st.Code() == codes.InvalidArgument {
		code = apiv1.CodeInvalid
	}
	answer(w, runtime.HTTPStatusFromCode(st.Code()), &apiv1.ReplyInfo{ReplyCode: int32(code), ReplyMsg: st.Message()})
}

func noRoute(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, httpStatus int) {
	switch httpStatus {
	case http.StatusMethodNotAllowed, http.StatusNotImplemented:
		refuse(w, http.StatusMethodNotAllowed, "%s takes no %s; docs/rest.md has what there is", vda.Shorten(r.URL.Path, 100), r.Method)
	default:
		refuse(w, http.StatusNotFound, "there is no %s; docs/rest.md has what there is", vda.Shorten(r.URL.Path, 100))
	}
}

// refuse answers a request that the portal was not asked.
func refuse(w http.ResponseWriter, httpStatus int, format string, args ...any) {
	code := apiv1.CodeInvalid
	switch httpStatus {
	case http.StatusNotFound:
		code = apiv1.CodeNotFound
	case http.StatusUnauthorized:
		code = apiv1.CodeUnauthenticated
	case http.StatusForbidden:
		code = apiv1.CodePermissionDenied
	case http.StatusTooManyRequests:
		code = apiv1.CodeBusy
	case http.StatusServiceUnavailable:
		code = apiv1.CodeDatabase
	}
	answer(w, httpStatus, &apiv1.ReplyInfo{ReplyCode: int32(code), ReplyMsg: fmt.Sprintf(format, args...)})
}

func answer(w http.ResponseWriter, httpStatus int, info *apiv1.ReplyInfo) {
	type reply struct {
		ReqID string `json:"req_id"`
		Code  int32  `json:"reply_code"`
		Msg   string `json:"reply_msg"`
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(httpStatus)
	// A client that is gone hears nothing.
	_ = json.NewEncoder(w).Encode(map[string]reply{"reply_info": {info.ReqId, info.ReplyCode, info.ReplyMsg}})
}
