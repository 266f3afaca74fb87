package web

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// field is one that a form asks for.
type field struct {
	Name, Label string
	Help        string
	Value       string
	Fixed       bool // it says what the action is about, and cannot be changed
	Optional    bool
	Secret      string   // a password: what password managers call it; taken as it is, and never shown again
	Options     []string // to choose from; none: any text
}

// action is something that a person can do: a form that says what will happen and
// asks for what is missing, and a call.
type action struct {
	title  string
	words  string // what will happen
	button string
	grave  bool // data may be lost: the name has to be typed again
	ends   bool // the person's sessions end with it
	fields []field
	// fill adds what the cluster has to offer to the fields; may be nil.
	fill func(ctx context.Context, p apiv1.PortalClient, fields []field) error
	// do makes the call and returns the page that shows the result.
	do func(ctx context.Context, p apiv1.PortalClient, form url.Values) (next string, err error)
}

// confirmField is where a grave action has its object's name typed again.
const confirmField = "confirm"

var (
	daField       = field{Name: "da_name", Label: "Array", Fixed: true}
	snapField     = field{Name: "snap_name", Label: "Snapshot", Fixed: true}
	fromSnapField = field{Name: "from_snap", Label: "Snapshot", Fixed: true}
	expField      = field{Name: "exp_name", Label: "Exporter", Fixed: true}
)

var actions = map[string]action{
	"create-array": {title: "Create an array", button: "Create",
		words: "An array is made of slices of disks on several nodes. Hosts reach it once it has an exporter.",
		fields: []field{{Name: "da_name", Label: "Name"},
			{Name: "da_size", Label: "Size", Help: "like 10 GiB", Value: "10 GiB"},
			{Name: "physical_size", Label: "Physical size", Optional: true,
				Help: "space on disks: more than the size leaves room for snapshots, less makes the array thin; as the size when empty"},
			{Name: "cntlr_cnt", Label: "Controllers", Value: "2", Help: "paths that a host has; with two or more it survives the loss of any"},
			{Name: "redundancy", Label: "Redundancy", Value: "none", Options: []string{"none", "mirror:2", "mirror:3"},
				Help: "mirror:2 survives the loss of any disk node, mirror:3 of any two"},
			{Name: "stripe_count", Label: "Stripes", Value: "1", Help: "disks that share the load"}},
		do: createArray},
	"delete-array": {title: "Delete an array", button: "Delete the array and all data on it", grave: true,
		words:  "All data of the array are lost.",
		fields: []field{daField},
		do: func(ctx context.Context, p apiv1.PortalClient, form url.Values) (string, error) {
			_, err := p.DeleteDa(ctx, &apiv1.DeleteDaRequest{DaName: form.Get("da_name")})
			return "/arrays", err
		}},
	"failover": {title: "Fail over", button: "Fail over",
		words:  "Another controller becomes the primary. Hosts go on after a pause of about a second.",
		fields: []field{daField, {Name: "to_cn", Label: "New primary", Optional: true}},
		fill:   secondaries,
		do: func(ctx context.Context, p apiv1.PortalClient, form url.Values) (string, error) {
			_, err := p.FailoverDa(ctx, &apiv1.FailoverDaRequest{DaName: form.Get("da_name"), ToCn: form.Get("to_cn")})
			return arrayPage(form), err
		}},
	"grow": {title: "Grow an array", button: "Grow",
		words:  "Hosts see the new size at once; then grow the file system on it. An array does not get smaller again.",
		fields: []field{daField, {Name: "da_size", Label: "New size", Help: "like 20 GiB; up to the physical size, unless the array is thin"}},
		do: func(ctx context.Context, p apiv1.PortalClient, form url.Values) (string, error) {
			size, err := parseSize("New size", form.Get("da_size"))
			if err == nil {
				_, err = p.ModifyDa(ctx, &apiv1.ModifyDaRequest{DaName: form.Get("da_name"), DaSize: &size})
			}
			return arrayPage(form), err
		}},
	"rollback": {title: "Roll back to a snapshot", button: "Roll back", grave: true,
		words:  "The array gets what the snapshot holds; all that was written since is lost. Delete its exporters first.",
		fields: []field{daField, snapField},
		do: func(ctx context.Context, p apiv1.PortalClient, form url.Values) (string, error) {
			_, err := p.RollbackSnap(ctx, &apiv1.RollbackSnapRequest{DaName: form.Get("da_name"), SnapName: form.Get("snap_name")})
			return arrayPage(form), err
		}},
	"create-snapshot": {title: "Take a snapshot", button: "Take the snapshot",
		words:  "The snapshot holds what is on the array at this moment, as after a power cut. Hosts pause for less than a second.",
		fields: []field{daField, {Name: "snap_name", Label: "Name"}},
		do: func(ctx context.Context, p apiv1.PortalClient, form url.Values) (string, error) {
			_, err := p.CreateSnap(ctx, &apiv1.CreateSnapRequest{DaName: form.Get("da_name"), SnapName: form.Get("snap_name")})
			return arrayPage(form), err
		}},
	"create-writable-snapshot": {title: "Make a writable snapshot", button: "Make the writable snapshot",
		words:  "Hosts may write to it. It begins with what the snapshot shows, and shares space with it and the array.",
		fields: []field{daField, fromSnapField, {Name: "snap_name", Label: "Name"}},
		do: func(ctx context.Context, p apiv1.PortalClient, form url.Values) (string, error) {
			_, err := p.CreateSnap(ctx, &apiv1.CreateSnapRequest{DaName: form.Get("da_name"), SnapName: form.Get("snap_name"),
				FromSnap: form.Get("from_snap")})
			return arrayPage(form), err
		}},
	"delete-snapshot": {title: "Delete a snapshot", button: "Delete the snapshot", grave: true,
		words:  "What the snapshot holds is lost. The array stays as it is.",
		fields: []field{daField, snapField},
		do: func(ctx context.Context, p apiv1.PortalClient, form url.Values) (string, error) {
			_, err := p.DeleteSnap(ctx, &apiv1.DeleteSnapRequest{DaName: form.Get("da_name"), SnapName: form.Get("snap_name")})
			return arrayPage(form), err
		}},
	"create-exporter": {title: "Export to a host", button: "Export",
		words: "The host with this NQN may connect, to all controllers of the array.",
		fields: []field{daField, {Name: "exp_name", Label: "Name"},
			{Name: "initiator_nqn", Label: "Host NQN", Help: "of the host, as in its /etc/nvme/hostnqn"},
			{Name: "snap_name", Label: "Snapshot", Optional: true, Help: "to export it in place of the array, read-only unless it is writable"}},
		do: func(ctx context.Context, p apiv1.PortalClient, form url.Values) (string, error) {
			_, err := p.CreateExp(ctx, &apiv1.CreateExpRequest{DaName: form.Get("da_name"), ExpName: form.Get("exp_name"),
				InitiatorNqn: form.Get("initiator_nqn"), SnapName: form.Get("snap_name")})
			return arrayPage(form), err
		}},
	"delete-exporter": {title: "Delete an exporter", button: "Delete the exporter", grave: true,
		words:  "The host loses its paths. The data stay on the array.",
		fields: []field{daField, expField},
		do: func(ctx context.Context, p apiv1.PortalClient, form url.Values) (string, error) {
			_, err := p.DeleteExp(ctx, &apiv1.DeleteExpRequest{DaName: form.Get("da_name"), ExpName: form.Get("exp_name")})
			return arrayPage(form), err
		}},
	"drain-dn": {title: "Drain a disk node", button: "Drain",
		words:  "All data on it move to other disk nodes while hosts go on. The node can be removed then.",
		fields: []field{{Name: "dn_name", Label: "Disk node", Fixed: true}},
		do: func(ctx context.Context, p apiv1.PortalClient, form url.Values) (string, error) {
			_, err := p.DrainDn(ctx, &apiv1.DrainDnRequest{DnName: form.Get("dn_name")})
			return "/dn/" + url.PathEscape(form.Get("dn_name")), err
		}},
	"drain-cn": {title: "Drain a controller node", button: "Drain",
		words:  "All primaries on it move to other controllers while hosts go on. Its programs can be restarted then.",
		fields: []field{{Name: "cn_name", Label: "Controller node", Fixed: true}},
		do: func(ctx context.Context, p apiv1.PortalClient, form url.Values) (string, error) {
			_, err := p.DrainCn(ctx, &apiv1.DrainCnRequest{CnName: form.Get("cn_name")})
			return "/cn/" + url.PathEscape(form.Get("cn_name")), err
		}},
	"undrain-cn": {title: "End the drain of a controller node", button: "End the drain",
		words:  "What has moved stays where it is; new controllers are placed on the node again.",
		fields: []field{{Name: "cn_name", Label: "Controller node", Fixed: true}},
		do: func(ctx context.Context, p apiv1.PortalClient, form url.Values) (string, error) {
			_, err := p.UndrainCn(ctx, &apiv1.UndrainCnRequest{CnName: form.Get("cn_name")})
			return "/cn/" + url.PathEscape(form.Get("cn_name")), err
		}},
	"password": {title: "Change your password", button: "Change the password", ends: true,
		words: "All your sessions end, this one too: log in with the new password afterwards.",
		fields: []field{{Name: "password", Label: "Present password", Secret: "current-password"},
			{Name: "new_password", Label: "New password", Secret: "new-password", Help: "12 to 256 characters"},
			{Name: "again", Label: "New password again", Secret: "new-password"}},
		do: func(ctx context.Context, p apiv1.PortalClient, form url.Values) (string, error) {
			if form.Get("new_password") != form.Get("again") {
				return "", invalid("The new password was typed in two ways; nothing was done")
			}
			_, err := p.SetPassword(ctx, &apiv1.SetPasswordRequest{Password: form.Get("password"), NewPassword: form.Get("new_password")})
			return "/login", err
		}},
	"undrain-dn": {title: "End the drain of a disk node", button: "End the drain",
		words:  "What has moved stays where it is; the rest stays on the node, which takes new data again.",
		fields: []field{{Name: "dn_name", Label: "Disk node", Fixed: true}},
		do: func(ctx context.Context, p apiv1.PortalClient, form url.Values) (string, error) {
			_, err := p.UndrainDn(ctx, &apiv1.UndrainDnRequest{DnName: form.Get("dn_name")})
			return "/dn/" + url.PathEscape(form.Get("dn_name")), err
		}},
}

func arrayPage(form url.Values) string { return "/arrays/" + url.PathEscape(form.Get("da_name")) }

func createArray(ctx context.Context, p apiv1.PortalClient, form url.Values) (string, error) {
	size, err := parseSize("Size", form.Get("da_size"))
	if err != nil {
		return "", err
	}
	physical := size
	if text := form.Get("physical_size"); text != "" {
		if physical, err = parseSize("Physical size", text); err != nil {
			return "", err
		}
	}
	cntlrs, err := strconv.ParseUint(form.Get("cntlr_cnt"), 10, 32)
	if err != nil {
		return "", invalid("Controllers %q: give a whole number", vda.Shorten(form.Get("cntlr_cnt"), 40))
	}
	stripes, err := strconv.ParseUint(form.Get("stripe_count"), 10, 32)
	if err != nil {
		return "", invalid("Stripes %q: give a whole number", vda.Shorten(form.Get("stripe_count"), 40))
	}
	_, err = p.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: form.Get("da_name"), DaSize: size, PhysicalSize: &physical,
		CntlrCnt: uint32(cntlrs), Redundancy: form.Get("redundancy"), DaConf: fmt.Sprintf(`{"stripe_count":%d}`, stripes)})
	return arrayPage(form), err
}

// bareUnit is a size as vda_cli takes it, whose units are of 1024.
var bareUnit = regexp.MustCompile(`^[0-9]+ *[KMGTPkmgtp]$`)

// parseSize reads a size with a unit.
func parseSize(label, text string) (uint64, error) {
	full := text
	if bareUnit.MatchString(text) {
		full += "iB"
	}
	n, err := humanize.ParseBytes(full)
	if err != nil {
		return 0, invalid("%s %q: give a number and a unit, like 10 GiB", label, vda.Shorten(text, 40))
	}
	return n, nil
}

// secondaries has a failover's form offer the cns that it can go to.
func secondaries(ctx context.Context, p apiv1.PortalClient, fields []field) error {
	reply, err := p.GetDa(ctx, &apiv1.GetDaRequest{DaName: fields[0].Value})
	if err != nil {
		return err
	}
	fields[1].Options = []string{""}
	for _, c := range reply.DaMsg.CntlrMsgList {
		if !c.Primary {
			fields[1].Options = append(fields[1].Options, c.CnName)
		}
	}
	return nil
}

// formView is a form to be shown.
type formView struct {
	Action  string
	Words   string
	Button  string
	Fields  []field
	Confirm string // what has to be typed again; "" for nothing
	Grave   bool
}

// prepare returns the form of an action with what values has for its fields, and
// nil when there is no such action.
func (s *server) prepare(ctx context.Context, name string, values url.Values) (*action, *formView, error) {
	a, ok := actions[name]
	if !ok {
		return nil, nil, nil
	}
	v := &formView{Action: name, Words: a.words, Button: a.button, Grave: a.grave}
	for _, f := range a.fields {
		if values.Has(f.Name) && f.Secret == "" {
			f.Value = strings.TrimSpace(values.Get(f.Name))
		}
		v.Fields = append(v.Fields, f)
		if f.Fixed && a.grave {
			v.Confirm = f.Value // of the last, which is what goes
		}
	}
	if a.fill != nil {
		if err := a.fill(ctx, s.cfg.Portal, v.Fields); err != nil {
			return &a, v, err
		}
	}
	return &a, v, nil
}

// form asks before anything is done.
func (s *server) form(w http.ResponseWriter, r *http.Request) {
	a, v, err := s.prepare(r.Context(), r.PathValue("action"), r.URL.Query())
	switch {
	case a == nil:
		s.noAction(w, r)
	case err != nil:
		s.showError(w, r, err)
	default:
		s.show(w, r, http.StatusOK, "form", page{Title: a.title, Data: v})
	}
}

// act does it, or shows the form again with why not.
func (s *server) act(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		s.show(w, r, http.StatusBadRequest, "problem", page{Title: "This did not work", Problem: "The form did not arrive whole; send it again."})
		return
	}
	a, v, err := s.prepare(r.Context(), r.PathValue("action"), r.PostForm)
	if a == nil {
		s.noAction(w, r)
		return
	}
	next := ""
	if err == nil && v.Confirm != "" && strings.TrimSpace(r.PostForm.Get(confirmField)) != v.Confirm {
		err = invalid("Type %s to confirm; nothing was done", v.Confirm)
	}
	if err == nil {
		form := url.Values{}
		for _, f := range v.Fields {
			form.Set(f.Name, f.Value)
			if f.Secret != "" {
				form.Set(f.Name, r.PostForm.Get(f.Name))
			}
		}
		next, err = a.do(r.Context(), s.cfg.Portal, form)
	}
	if err != nil {
		s.show(w, r, httpStatus(err), "form", page{Title: a.title, Problem: said(err), Data: v})
		return
	}
	if a.ends {
		http.SetCookie(w, noSession(r))
	}
	http.Redirect(w, r, next, http.StatusSeeOther)
}

// invalid is what is wrong with a form, as the portal would say it.
func invalid(format string, args ...any) error {
	return status.Errorf(codes.InvalidArgument, format, args...)
}

func (s *server) noAction(w http.ResponseWriter, r *http.Request) {
	s.show(w, r, http.StatusNotFound, "problem",
		page{Title: "Not found", Problem: "There is no action " + vda.Shorten(r.PathValue("action"), 40) + "."})
}
