package cli

import (
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Fields of requests and replies of lists.
const (
	fieldLimit = protoreflect.Name("limit")
	fieldToken = protoreflect.Name("token")
	fieldNext  = protoreflect.Name("next_token")
)

// pages reports that a command prints one page of a list, of which there may be more.
func (c *command) pages() bool { return c.flag(string(fieldToken)) != nil }

// nextToken is where a list goes on, "" when it does not.
func nextToken(reply proto.Message) string {
	r := reply.ProtoReflect()
	if f := r.Descriptor().Fields().ByName(fieldNext); f != nil {
		return r.Get(f).String()
	}
	return ""
}

// allPages has all pages of a list asked for, the largest that there are, and put together in
// one reply. Rows that come and go meanwhile may be in it or not.
func allPages(req proto.Message, ask func(reply proto.Message) error) func(proto.Message) error {
	r := req.ProtoReflect()
	fields := r.Descriptor().Fields()
	return func(reply proto.Message) error {
		r.Set(fields.ByName(fieldLimit), protoreflect.ValueOfUint32(most))
		for {
			page := reply.ProtoReflect().New().Interface()
			if err := ask(page); err != nil {
				return err
			}
			next, all := nextToken(page), reply.ProtoReflect()
			all.Clear(all.Descriptor().Fields().ByName("reply_info")) // the last page's is shown
			proto.Merge(reply, page)                                  // appends lists
			if next == "" {
				all.Clear(all.Descriptor().Fields().ByName(fieldNext))
				return nil
			}
			if next == r.Get(fields.ByName(fieldToken)).String() {
				return fmt.Errorf("the portal's list goes round in circles at %q", next)
			}
			r.Set(fields.ByName(fieldToken), protoreflect.ValueOfString(next))
		}
	}
}

// more says on standard error that a list goes on, to those who have not asked for a part.
func (s *session) more(req, reply proto.Message) {
	r := req.ProtoReflect()
	fields := r.Descriptor().Fields()
	limit, token := fields.ByName(fieldLimit), fields.ByName(fieldToken)
	if nextToken(reply) != "" && !r.Has(limit) && !r.Has(token) && !s.human && !s.output.forPeople() {
		fmt.Fprintln(s.stderr, "vda_cli: note: these are not all; --all lists as many as there are, --limit and --token a page")
	}
}
