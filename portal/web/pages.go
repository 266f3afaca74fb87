package web

import (
	"bytes"
	"cmp"
	"context"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

//go:embed templates
var templateFiles embed.FS

// page is what every template gets.
type page struct {
	Title   string
	Section string // of the navigation
	Live    bool   // the script keeps it up to date
	Problem string // what went wrong, for the person who asked
	Inside  bool   // there is a session
	Own     bool   // it is a user's, who may have a password
	Data    any
	Now     time.Time // UTC, of what it shows
}

// templates has one per page, each with the frame around it.
var templates = parse("overview", "nodes", "dn", "cn", "arrays", "array", "snapshots", "events", "alerts", "form", "login", "problem")

func parse(names ...string) map[string]*template.Template {
	all := map[string]*template.Template{}
	frame := template.Must(template.New("frame.html").Funcs(functions).ParseFS(templateFiles, "templates/frame.html", "templates/parts.html"))
	for _, n := range names {
		all[n] = template.Must(template.Must(frame.Clone()).ParseFS(templateFiles, "templates/"+n+".html"))
	}
	return all
}

// functions of the templates.
var functions = template.FuncMap{
	"size":      humanize.IBytes,
	"segment":   url.PathEscape,
	"address":   address,
	"disk":      disk,
	"since":     since,
	"seconds":   func(n uint64) string { return (time.Duration(n) * time.Second).String() },
	"clock":     clock,
	"count":     count,
	"first":     func(list any) any { v := reflect.ValueOf(list); return v.Slice(0, min(v.Len(), maxRows)).Interface() },
	"more":      func(all uint32, list any) int { return int(all) - min(reflect.ValueOf(list).Len(), maxRows) },
	"component": func(name string) string { return cmp.Or(components[name], name) },
	"noun":      func(object string) string { return cmp.Or(nouns[object], object) },
}

// maxRows is how many parts of a node its page shows.
const maxRows = 200

// components and nouns are the API's words as people say them.
var (
	components = map[string]string{"dn_agent": "disk node agent", "cn_agent": "controller node agent", "data_plane": "data plane"}
	nouns      = map[string]string{"dn": "disk node", "pd": "disk", "vd": "virtual disk", "cn": "controller node", "da": "array",
		"snap": "snapshot", "exp": "exporter"}
)

// count is a number of things in words.
func count(n any, noun string) string {
	if number := fmt.Sprint(n); number != "1" {
		return number + " " + noun + "s"
	}
	return "1 " + noun
}

// address of a listener conf.
func address(conf string) string {
	l, err := vda.ParseListener("listener", conf)
	if err != nil {
		return conf
	}
	if l.AdrFam == "ipv6" {
		return "[" + l.TrAddr + "]:" + l.TrSvcID
	}
	return l.TrAddr + ":" + l.TrSvcID
}

// disk says in words what a pd conf names.
func disk(conf string) string {
	c, err := vda.ParsePDConf("pd_conf", conf)
	if err != nil {
		return conf
	}
	switch {
	case c.Filename != "":
		return c.Filename
	case c.TrAddr != "":
		return "NVMe " + c.TrAddr
	}
	return c.Type
}

// since is how long ago a time of a reply was.
func since(rfc3339 string) string {
	t, err := time.Parse(time.RFC3339Nano, rfc3339)
	if err != nil {
		return ""
	}
	return humanize.Time(t)
}

// clock is a time of a reply to the second.
func clock(rfc3339 string) string {
	t, err := time.Parse(time.RFC3339Nano, rfc3339)
	if err != nil {
		return rfc3339
	}
	return t.UTC().Format("2006-01-02 15:04:05")
}

// show writes a page.
func (s *server) show(w http.ResponseWriter, r *http.Request, httpStatus int, name string, p page) {
	user, inside := s.doors.inside(r)
	p.Now = time.Now().UTC()
	p.Inside, p.Own = inside, inside && user != "" && s.passwords()
	var b bytes.Buffer
	if err := templates[name].ExecuteTemplate(&b, "frame.html", p); err != nil {
		s.cfg.Log.Error("a page could not be made", "page", name, "err", err)
		http.Error(w, "The page could not be made; the portal's log has the reason.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(httpStatus)
	_, _ = w.Write(b.Bytes()) // the browser's loss
}

// showError writes the page of a call that the portal refused.
func (s *server) showError(w http.ResponseWriter, r *http.Request, err error) {
	title := "This did not work"
	if status.Code(err) == codes.NotFound {
		title = "Not found"
	}
	s.show(w, r, httpStatus(err), "problem", page{Title: title, Problem: said(err)})
}

// said is what the portal says of a call that it refused.
func said(err error) string { return status.Convert(err).Message() }

func httpStatus(err error) int {
	switch status.Code(err) {
	case codes.NotFound:
		return http.StatusNotFound
	case codes.InvalidArgument:
		return http.StatusBadRequest
	case codes.Unauthenticated:
		return http.StatusUnauthorized
	case codes.PermissionDenied:
		return http.StatusForbidden
	case codes.AlreadyExists, codes.FailedPrecondition, codes.ResourceExhausted:
		return http.StatusConflict
	case codes.Unavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// view makes a page of what read returns.
func (s *server) view(name string, read func(ctx context.Context, r *http.Request) (page, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		p, err := read(r.Context(), r)
		if err != nil {
			s.showError(w, r, err)
			return
		}
		p.Live = true
		s.show(w, r, http.StatusOK, name, p)
	}
}

func (s *server) addPages(mux *http.ServeMux) {
	mux.HandleFunc("GET /{$}", s.view("overview", s.overview))
	mux.HandleFunc("GET /nodes", s.view("nodes", s.nodes))
	mux.HandleFunc("GET /dn/{dn}", s.view("dn", s.dn))
	mux.HandleFunc("GET /cn/{cn}", s.view("cn", s.cn))
	mux.HandleFunc("GET /arrays", s.view("arrays", s.arrays))
	mux.HandleFunc("GET /arrays/{da}", s.view("array", s.array))
	mux.HandleFunc("GET /snapshots", s.view("snapshots", s.snapshots))
	mux.HandleFunc("GET /events", s.view("events", s.events))
	mux.HandleFunc("GET /alerts", s.view("alerts", s.alerts))
	mux.HandleFunc("GET /do/{action}", s.form)
	mux.HandleFunc("POST /do/{action}", s.act)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.show(w, r, http.StatusNotFound, "problem", page{Title: "Not found", Problem: "There is no page " + vda.Shorten(r.URL.Path, 100) + "."})
	})
}

func (s *server) overview(ctx context.Context, _ *http.Request) (page, error) {
	reply, err := s.cfg.Portal.GetStatus(ctx, &apiv1.GetStatusRequest{})
	return page{Title: "Overview", Section: "overview", Data: reply.GetStatusMsg()}, err
}

// nodesView is every node. A cluster has more of them than a page only when it is
// very large: the rest is then behind "next".
type nodesView struct {
	DNs            []*apiv1.DnMsg
	CNs            []*apiv1.CnMsg
	PDs            map[string][]*apiv1.PdMsg // by the dn's name
	MoreDN, MoreCN string
}

func (s *server) nodes(ctx context.Context, r *http.Request) (page, error) {
	v := nodesView{PDs: map[string][]*apiv1.PdMsg{}}
	q := r.URL.Query()
	dns, err := s.cfg.Portal.ListDn(ctx, &apiv1.ListDnRequest{Token: q.Get("dns")})
	if err != nil {
		return page{}, err
	}
	cns, err := s.cfg.Portal.ListCn(ctx, &apiv1.ListCnRequest{Token: q.Get("cns")})
	if err != nil {
		return page{}, err
	}
	v.DNs, v.MoreDN, v.CNs, v.MoreCN = dns.DnMsgList, dns.NextToken, cns.CnMsgList, cns.NextToken
	for token := ""; ; {
		pds, err := s.cfg.Portal.ListPd(ctx, &apiv1.ListPdRequest{Token: token, Limit: pageOfDisks})
		if err != nil {
			return page{}, err
		}
		for _, pd := range pds.PdMsgList {
			v.PDs[pd.DnName] = append(v.PDs[pd.DnName], pd)
		}
		if token = pds.NextToken; token == "" {
			break
		}
	}
	return page{Title: "Nodes and disks", Section: "nodes", Data: v}, nil
}

const pageOfDisks = 1000

func (s *server) dn(ctx context.Context, r *http.Request) (page, error) {
	reply, err := s.cfg.Portal.GetDn(ctx, &apiv1.GetDnRequest{DnName: r.PathValue("dn"), WithVds: true})
	return page{Title: "Disk node " + reply.GetDnMsg().GetDnName(), Section: "nodes", Data: reply.GetDnMsg()}, err
}

func (s *server) cn(ctx context.Context, r *http.Request) (page, error) {
	reply, err := s.cfg.Portal.GetCn(ctx, &apiv1.GetCnRequest{CnName: r.PathValue("cn"), WithCntlrs: true})
	return page{Title: "Controller node " + reply.GetCnMsg().GetCnName(), Section: "nodes", Data: reply.GetCnMsg()}, err
}

type arraysView struct {
	DAs  []*apiv1.DaMsg
	Next string
}

func (s *server) arrays(ctx context.Context, r *http.Request) (page, error) {
	reply, err := s.cfg.Portal.ListDa(ctx, &apiv1.ListDaRequest{Token: r.URL.Query().Get("after")})
	return page{Title: "Arrays", Section: "arrays", Data: arraysView{reply.GetDaMsgList(), reply.GetNextToken()}}, err
}

type arrayView struct {
	DA    *apiv1.DaMsg
	Exps  []*apiv1.ExpMsg
	Snaps []*apiv1.SnapMsg
	Paths *picture
}

func (s *server) array(ctx context.Context, r *http.Request) (page, error) {
	name := r.PathValue("da")
	reply, err := s.cfg.Portal.GetDa(ctx, &apiv1.GetDaRequest{DaName: name})
	if err != nil {
		return page{}, err
	}
	v := arrayView{DA: reply.DaMsg}
	exps, err := s.cfg.Portal.ListExp(ctx, &apiv1.ListExpRequest{DaName: &name})
	if err != nil {
		return page{}, err
	}
	snaps, err := s.cfg.Portal.ListSnap(ctx, &apiv1.ListSnapRequest{DaName: &name})
	if err != nil {
		return page{}, err
	}
	v.Exps, v.Snaps = exps.ExpMsgList, snaps.SnapMsgList
	v.Paths = draw(v.DA, v.Exps)
	return page{Title: "Array " + v.DA.DaName, Section: "arrays", Data: v}, nil
}

type eventsView struct {
	Events []*apiv1.EventMsg
	Least  string // severity of the events that are shown
	Next   string
}

func (s *server) events(ctx context.Context, r *http.Request) (page, error) {
	v := eventsView{Least: r.URL.Query().Get("least")}
	reply, err := s.cfg.Portal.ListEvent(ctx, &apiv1.ListEventRequest{Token: r.URL.Query().Get("after"),
		Filter: &apiv1.EventFilter{Severity: v.Least}})
	v.Events, v.Next = reply.GetEventMsgList(), reply.GetNextToken()
	return page{Title: "Events", Section: "events", Data: v}, err
}

func (s *server) alerts(ctx context.Context, _ *http.Request) (page, error) {
	reply, err := s.cfg.Portal.ListAlert(ctx, &apiv1.ListAlertRequest{})
	return page{Title: "Alerts", Section: "alerts", Data: reply.GetAlertMsgList()}, err
}

type snapshotsView struct {
	Snaps []*apiv1.SnapMsg
	Next  string
}

func (s *server) snapshots(ctx context.Context, r *http.Request) (page, error) {
	reply, err := s.cfg.Portal.ListSnap(ctx, &apiv1.ListSnapRequest{Token: r.URL.Query().Get("after")})
	return page{Title: "Snapshots", Section: "snapshots", Data: snapshotsView{reply.GetSnapMsgList(), reply.GetNextToken()}}, err
}

// short is the last part of an NQN, which tells hosts apart for people.
func short(nqn string) string {
	if i := strings.LastIndexByte(nqn, ':'); i >= 0 && i+1 < len(nqn) {
		return nqn[i+1:]
	}
	return nqn
}
