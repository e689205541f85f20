// etcd-load asks an etcd server what zabra-load asks a ZooKeeper server, over etcd's own Go client, and writes the same JSON.
//
// A connection is a client of its own (one gRPC connection); --depth goroutines on it each keep one request in flight.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

type arguments struct {
	Load         string   `json:"load"`
	Server       string   `json:"server"`
	Connections  int      `json:"connections"`
	Depth        *int     `json:"depth"`
	Rate         *float64 `json:"rate"`
	Size         int      `json:"size"`
	Keys         int      `json:"keys"`
	Reads        int      `json:"reads"`
	Ops          int      `json:"ops"`
	WarmUp       float64  `json:"warm_up"`
	Seconds      float64  `json:"-"`
	Seed         int64    `json:"seed"`
	Linearizable bool     `json:"linearizable"`
	Persistent   bool     `json:"persistent"`
	root         string
	hlog         string
	stall        time.Duration
	pid          int
}

func parse(line []string) (arguments, error) {
	var a arguments
	if len(line) == 0 {
		return a, fmt.Errorf("usage: etcd-load get|set|create|mixed|multi|fanout [--server HOST:PORT] [--connections N] " +
			"[--depth N | --rate PER_SECOND] ... (--help)")
	}
	flags := flag.NewFlagSet("etcd-load", flag.ContinueOnError)
	depth := flags.Int("depth", 1, "closed loop: requests in flight on each connection")
	rate := flags.Float64("rate", 0, "open loop: requests per second over all connections, latency from the planned send")
	flags.StringVar(&a.Server, "server", "127.0.0.1:2379", "etcd's client address")
	flags.IntVar(&a.Connections, "connections", 64, "clients, each with a connection of its own")
	flags.IntVar(&a.Size, "size", 100, "bytes of a value")
	flags.IntVar(&a.Keys, "keys", 1000, "keys that get, set, mixed and multi choose from")
	flags.IntVar(&a.Reads, "reads", 90, "mixed: per cent of reads")
	flags.IntVar(&a.Ops, "ops", 10, "multi: puts in one transaction")
	flags.Float64Var(&a.WarmUp, "warm-up", 2, "seconds that are not counted")
	flags.Float64Var(&a.Seconds, "seconds", 10, "seconds that are")
	flags.Int64Var(&a.Seed, "seed", 1, "seed of the random choices")
	flags.BoolVar(&a.Linearizable, "linearizable", false, "etcd's default reads instead of serializable ones")
	flags.StringVar(&a.root, "root", "/zabra-load", "what every key begins with")
	flags.IntVar(&a.pid, "server-pid", 0, "process whose CPU time and memory are reported")
	flags.StringVar(&a.hlog, "hlog", "", "file for the histograms of the measured time, one of each kind (HdrHistogram's V2 log)")
	stall := flags.Float64("stall", 20, "seconds without any reply after which the run has failed")
	a.Load = line[0]
	switch a.Load {
	case "get", "set", "create", "mixed", "multi", "fanout":
	case "-h", "--help":
		flags.Usage()
		os.Exit(0)
	default:
		return a, fmt.Errorf("no load %q", a.Load)
	}
	if err := flags.Parse(line[1:]); err != nil {
		return a, err
	}
	if flags.NArg() > 0 {
		return a, fmt.Errorf("unknown argument %q", flags.Arg(0))
	}
	if a.Connections < 1 || *depth < 1 || *rate < 0 || a.Keys < 1 || a.Size < 0 || a.Seconds <= 0 || a.WarmUp < 0 {
		return a, fmt.Errorf("--connections, --depth, --keys and --seconds are at least 1, others not negative")
	}
	if a.Ops < 1 || a.Ops > 128 || a.Ops > a.Keys {
		return a, fmt.Errorf("--ops is from 1 to 128 (etcd's --max-txn-ops), and not more than --keys: no key twice in a transaction")
	}
	if *rate > 0 {
		a.Rate = rate
	} else {
		a.Depth = depth
	}
	a.Persistent = a.Load == "fanout"
	a.stall = time.Duration(*stall * float64(time.Second))
	return a, nil
}

func main() {
	args, err := parse(os.Args[1:])
	if err == nil {
		// Keys of a run that is cut off are removed by the next one's set-up.
		stop := make(chan os.Signal, 1)
		signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
		go func() {
			<-stop
			os.Exit(130)
		}()
		err = run(args)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "etcd-load: %v\n", err)
		os.Exit(1)
	}
}

func run(args arguments) error {
	clients, err := dial(args.Server, args.Connections)
	if err != nil {
		return err
	}
	defer clients.close()
	rec := newRecorder(args)
	var out *report
	if args.Load == "fanout" {
		out, err = fanout(args, clients, rec)
	} else {
		out, err = steady(args, clients, rec)
	}
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		return err
	}
	fmt.Println(string(text))
	if out.Held != nil && !*out.Held {
		clients.close()
		os.Exit(3)
	}
	return nil
}
