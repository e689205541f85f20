package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

func TestArguments(t *testing.T) {
	a, err := parse(strings.Fields("set --connections 16 --depth 64"))
	if err != nil || a.Connections != 16 || *a.Depth != 64 || a.Rate != nil {
		t.Fatalf("%+v %v", a, err)
	}
	if a, err = parse(strings.Fields("get --rate 500")); err != nil || *a.Rate != 500 || a.Depth != nil {
		t.Fatalf("%+v %v", a, err)
	}
	for _, bad := range []string{"", "push", "get --connections 0", "get --seconds 0", "multi --ops 129", "multi --ops 9 --keys 8", "get x"} {
		if _, err := parse(strings.Fields(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestReport(t *testing.T) {
	args, err := parse(strings.Fields("mixed"))
	if err != nil {
		t.Fatal(err)
	}
	args.pid = os.Getpid()
	args.hlog = filepath.Join(t.TempDir(), "x.hlog")
	rec := newRecorder(args)
	rec.kinds([]string{"get", "set"})
	rec.reply(0, first, time.Second, time.Second) // warm-up: not counted
	if err := errors.Join(rec.ready(), rec.begin()); err != nil {
		t.Fatal(err)
	}
	for n := range 1000 {
		rec.reply(n, n%2, time.Duration(n+1)*time.Microsecond, time.Microsecond)
	}
	out, err := rec.end()
	if err != nil {
		t.Fatal(err)
	}
	if out.Ops != 1000 || out.ByKind["set"].Count != 500 || out.Latency.P50 < 499 || out.Latency.P50 > 501.5 || out.Latency.Max < 999 {
		t.Errorf("%+v", out)
	}
	if last := out.Curve[len(out.Curve)-1]; last[0] != 100 || last[1] != out.Latency.Max {
		t.Errorf("%v", out.Curve)
	}
	if out.Memory.RSS <= 0 || out.Server == nil {
		t.Errorf("%+v %+v", out.Memory, out.Server)
	}
	log, err := os.ReadFile(args.hlog)
	if err != nil {
		t.Fatal(err)
	}
	var counted int64
	for line := range strings.Lines(string(log)) {
		if fields := strings.Split(strings.TrimSpace(line), ","); strings.HasPrefix(line, "Tag=") {
			one, err := hdrhistogram.Decode([]byte(fields[len(fields)-1]))
			if err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			counted += one.TotalCount()
		}
	}
	if counted != 1000 {
		t.Errorf("%d in the log:\n%s", counted, log)
	}
	text, err := json.Marshal(out)
	if err != nil || !strings.Contains(string(text), `"p99.9":`) {
		t.Errorf("%s %v", text, err)
	}
}

func TestNobody(t *testing.T) {
	if _, err := readUsage(1 << 30); err == nil || !strings.Contains(err.Error(), "--server-pid") {
		t.Errorf("%v", err)
	}
}
