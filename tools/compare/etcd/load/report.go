package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// As zabra-load's: nanoseconds up to ten minutes, three digits.
func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, 600_000_000_000, 3) }

func record(h *hdrhistogram.Histogram, d time.Duration) {
	ns := min(max(d.Nanoseconds(), 1), h.HighestTrackableValue())
	// Cannot be out of range.
	_ = h.RecordValue(ns)
}

// recorder keeps a few histograms for each kind; connections share them, or 1,000 of them would take a gigabyte.
type recorder struct {
	args   arguments
	names  []string
	shards []shard
	began  time.Time
	server usage
	own    usage
	log    *os.File
}

type shard struct {
	lock      sync.Mutex
	measuring bool
	planned   []*hdrhistogram.Histogram
	sent      *hdrhistogram.Histogram
}

const shards = 16

func newRecorder(args arguments) *recorder {
	return &recorder{args: args, shards: make([]shard, shards)}
}

func (r *recorder) kinds(names []string) {
	r.names = names
	for i := range r.shards {
		for range names {
			r.shards[i].planned = append(r.shards[i].planned, newHistogram())
		}
		r.shards[i].sent = newHistogram()
	}
}

func (r *recorder) reply(at, kind int, planned, sent time.Duration) {
	s := &r.shards[at%shards]
	s.lock.Lock()
	defer s.lock.Unlock()
	if s.measuring {
		record(s.planned[kind], planned)
		if r.args.Rate != nil {
			record(s.sent, sent)
		}
	}
}

func (r *recorder) set(measuring bool) {
	for i := range r.shards {
		r.shards[i].lock.Lock()
		r.shards[i].measuring = measuring
		r.shards[i].lock.Unlock()
	}
}

// ready is called when everything is set up and the load may begin. A pipe as --hlog holds it up here until somebody reads.
func (r *recorder) ready() (err error) {
	if r.args.hlog == "" {
		return nil
	}
	// Not os.Create, which opens for reading too: of a pipe that would be its own reader.
	if r.log, err = os.OpenFile(r.args.hlog, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o666); err != nil {
		return err
	}
	return hdrhistogram.NewHistogramLogWriter(r.log).OutputLogFormatVersion()
}

func (r *recorder) begin() (err error) {
	if r.args.pid != 0 {
		if r.server, err = readUsage(r.args.pid); err != nil {
			return err
		}
	}
	if r.own, err = readUsage(os.Getpid()); err != nil {
		return err
	}
	r.began = time.Now()
	r.set(true)
	return nil
}

func (r *recorder) end() (*report, error) {
	r.set(false)
	seconds := time.Since(r.began).Seconds()
	ended := time.Now()
	out := &report{Arguments: r.args, Seconds: seconds, ByKind: map[string]numbers{}, Extra: map[string]float64{}}
	log := hdrhistogram.NewHistogramLogWriter(r.log)
	log.SetBaseTime(r.began.UnixMilli())
	all, sent := newHistogram(), newHistogram()
	for k, name := range r.names {
		one := newHistogram()
		for i := range r.shards {
			one.Merge(r.shards[i].planned[k])
		}
		if r.log != nil {
			one.SetTag(name)
			one.SetStartTimeMs(r.began.UnixMilli())
			one.SetEndTimeMs(ended.UnixMilli())
			if err := log.OutputIntervalHistogram(one); err != nil {
				return nil, err
			}
		}
		out.ByKind[name] = toNumbers(one)
		all.Merge(one)
	}
	for i := range r.shards {
		sent.Merge(r.shards[i].sent)
	}
	out.Ops = all.TotalCount()
	out.Rate = float64(out.Ops) / seconds
	out.Latency = toNumbers(all)
	for _, b := range all.CumulativeDistributionWithTicks(5) {
		out.Curve = append(out.Curve, [2]float64{b.Quantile, float64(b.ValueAt) / 1e3})
	}
	if r.args.Rate != nil {
		n := toNumbers(sent)
		out.Service = &n
	}
	own, err := readUsage(os.Getpid())
	if err != nil {
		return nil, err
	}
	out.Generator = own.since(r.own).total().Seconds() / seconds
	if r.args.pid == 0 {
		return out, nil
	}
	server, err := readUsage(r.args.pid)
	if err != nil {
		return nil, err
	}
	used := server.since(r.server)
	each := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 / float64(max(out.Ops, 1)) }
	out.Server = &cpu{each(used.user), each(used.system), each(used.total()), used.total().Seconds() / seconds}
	out.Memory, err = readMemory(r.args.pid)
	return out, err
}

type numbers struct {
	Count int64   `json:"count"`
	Mean  float64 `json:"mean"`
	Min   float64 `json:"min"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p99.9"`
	P9999 float64 `json:"p99.99"`
	Max   float64 `json:"max"`
}

func toNumbers(h *hdrhistogram.Histogram) numbers {
	at := func(percent float64) float64 { return float64(h.ValueAtQuantile(percent)) / 1e3 }
	return numbers{h.TotalCount(), h.Mean() / 1e3, float64(h.Min()) / 1e3, at(50), at(90), at(99), at(99.9), at(99.99),
		float64(h.Max()) / 1e3}
}

type cpu struct {
	User   float64 `json:"user_us_per_op"`
	System float64 `json:"system_us_per_op"`
	Total  float64 `json:"us_per_op"`
	CPUs   float64 `json:"cpus"`
}

type memory struct {
	RSS       int64 `json:"rss"`
	Peak      int64 `json:"peak_rss"`
	Anonymous int64 `json:"anonymous"`
}

type report struct {
	Arguments arguments          `json:"arguments"`
	Seconds   float64            `json:"seconds"`
	Ops       int64              `json:"ops"`
	Rate      float64            `json:"ops_per_second"`
	Held      *bool              `json:"held"`
	Latency   numbers            `json:"latency_us"`
	Curve     [][2]float64       `json:"latency_curve_us"`
	ByKind    map[string]numbers `json:"latency_us_by_kind"`
	Service   *numbers           `json:"service_latency_us"`
	Server    *cpu               `json:"server_cpu"`
	Memory    *memory            `json:"server_memory_bytes"`
	Generator float64            `json:"generator_cpus"`
	Extra     map[string]float64 `json:"extra"`
}

type usage struct{ user, system time.Duration }

func (u usage) since(before usage) usage {
	return usage{u.user - before.user, u.system - before.system}
}
func (u usage) total() time.Duration { return u.user + u.system }

// readUsage: the kernel counts in ticks of 10 ms on every Linux that Go runs on.
func readUsage(pid int) (usage, error) {
	file := fmt.Sprintf("/proc/%d/stat", pid)
	text, err := os.ReadFile(file)
	if err != nil {
		return usage{}, fmt.Errorf("%w (is --server-pid right?)", err)
	}
	// The name stands in brackets and may hold anything; what follows is numbers.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 13 {
		return usage{}, fmt.Errorf("%s: too short", file)
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	if err1 != nil || err2 != nil {
		return usage{}, fmt.Errorf("%s: no numbers", file)
	}
	return usage{time.Duration(user) * 10 * time.Millisecond, time.Duration(system) * 10 * time.Millisecond}, nil
}

func readMemory(pid int) (*memory, error) {
	file := fmt.Sprintf("/proc/%d/status", pid)
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%w (is --server-pid right?)", err)
	}
	found := map[string]int64{}
	for line := range strings.SplitSeq(string(text), "\n") {
		name, value, _ := strings.Cut(line, ":")
		if number, kib := strings.CutSuffix(strings.TrimSpace(value), " kB"); kib {
			if n, err := strconv.ParseInt(number, 10, 64); err == nil {
				found[name] = n * 1024
			}
		}
	}
	if found["VmRSS"] == 0 {
		return nil, fmt.Errorf("%s: no VmRSS", file)
	}
	return &memory{found["VmRSS"], found["VmHWM"], found["RssAnon"]}, nil
}
