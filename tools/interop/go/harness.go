// Command interop runs the Go client go-zookeeper/zk for tools/zabratools/interop/program_suite.py, which
// describes the lines it speaks.
package main

import (
	"bufio"
	"fmt"
	"os"
	"reflect"
	"runtime/debug"
	"strings"
	"time"

	"github.com/go-zookeeper/zk"
)

// longSession is longer than any pause of a busy machine.
const longSession = 60 * time.Second

// patience is how long a test waits before it fails.
const patience = 30 * time.Second

var (
	direct  string
	relayed string
	answers = bufio.NewScanner(os.Stdin)
)

type failed string

type quiet struct{}

func (quiet) Printf(string, ...interface{}) {}

func ask(line string) string {
	fmt.Println(line)
	if !answers.Scan() {
		os.Exit(1) // the supervisor has gone
	}
	return answers.Text()
}

// do asks the supervisor to cut or heal the relay, or to kill, stop or start the server.
func do(verbs ...string) {
	for _, verb := range verbs {
		if got := ask("DO " + verb); got != "done" {
			panic(failed(verb + ": " + got))
		}
	}
}

// test runs one named test; k's clients are closed after it.
func test(name string, body func(k *clients)) {
	if ask("TEST "+name) != "run" {
		return
	}
	k := &clients{}
	defer k.close()
	defer func() {
		switch problem := recover().(type) {
		case nil:
			fmt.Println("PASS")
		case failed:
			fmt.Println("FAIL " + strings.ReplaceAll(string(problem), "\n", " | "))
		default:
			fmt.Println("FAIL " + strings.ReplaceAll(fmt.Sprint(problem), "\n", " | "))
			fmt.Fprintln(os.Stderr, problem, string(debug.Stack()))
		}
	}()
	body(k)
}

func eq(want, got interface{}, what string) {
	if !reflect.DeepEqual(want, got) {
		panic(failed(fmt.Sprintf("%s: expected %v, actual %v", what, want, got)))
	}
}

func ok(err error, what string) {
	if err != nil {
		panic(failed(what + ": " + err.Error()))
	}
}

func eventually(what string, probe func() bool) {
	for end := time.Now().Add(patience); ; time.Sleep(25 * time.Millisecond) {
		if probe() {
			return
		}
		if time.Now().After(end) {
			panic(failed(fmt.Sprintf("not within %v: %s", patience, what)))
		}
	}
}

// event waits for the one event of a watch.
func event(watch <-chan zk.Event, what string) zk.Event {
	select {
	case e := <-watch:
		return e
	case <-time.After(patience):
		panic(failed("no event within " + patience.String() + ": " + what))
	}
}

// clients are the clients of one test.
type clients struct {
	open []*zk.Conn
}

func (k *clients) connect(address string, timeout time.Duration) (*zk.Conn, <-chan zk.Event) {
	c, events, err := zk.Connect(strings.Split(address, ","), timeout, zk.WithLogger(quiet{}))
	ok(err, "connect")
	k.open = append(k.open, c)
	eventually("a session", func() bool { return c.State() == zk.StateHasSession })
	return c, events
}

func (k *clients) client() *zk.Conn {
	c, _ := k.connect(direct, longSession)
	return c
}

func (k *clients) close() {
	for _, c := range k.open {
		c.Close()
	}
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: interop HOST:PORT,… RELAY_HOST:PORT,… (started by program_suite.py)")
		os.Exit(2)
	}
	direct, relayed = os.Args[1], os.Args[2]
	runAll()
	fmt.Println("DONE")
}
