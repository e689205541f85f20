package main

import (
	"errors"
	"fmt"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-zookeeper/zk"
)

var open = zk.WorldACL(zk.PermAll)

func runAll() {
	test("basic.create-get-set-delete", basics)
	test("basic.errors", errorCodes)
	test("basic.sync-and-large-data", syncAndLarge)
	test("create.ephemeral-and-sequential", ephemeralSequential)
	test("create.container", container)
	test("create.ttl", ttl)
	test("create.protected", protected)
	test("watch.data-exists-children", watches)
	test("watch.many-clients-one-znode", watchMany)
	test("multi.applied", multi)
	test("multi.nothing-applied-after-an-error", multiFails)
	test("acl.digest", digest)
	test("acl.set-and-get", setACL)
	test("lock.excludes", lock)
	test("lock.passes-on-when-the-session-expires", lockExpiry)
	test("pipeline.200-writers-and-readers", pipeline)
	test("session.cut-connection-keeps-session-and-watches", cut)
	test("session.expires-and-a-new-one-begins", expires)
	test("session.close-ends-ephemerals", closes)
	test("words.ruok", words)
	test("restart.kill-9-keeps-session-watches-and-auth", restart)
}

func create(c *zk.Conn, path, data string, flags int32) string {
	got, err := c.Create(path, []byte(data), flags, open)
	ok(err, "create "+path)
	return got
}

func exists(c *zk.Conn, path string) bool {
	there, _, err := c.Exists(path)
	ok(err, "exists "+path)
	return there
}

func basics(k *clients) {
	c := k.client()
	eq("/go-basic", create(c, "/go-basic", "one", 0), "path")
	data, stat, err := c.Get("/go-basic")
	ok(err, "get")
	eq("one", string(data), "data")
	eq([]int32{0, 3, 0, 0, 0}, []int32{stat.Version, stat.DataLength, stat.NumChildren, stat.Cversion, stat.Aversion}, "stat")
	eq([]int64{stat.Czxid, stat.Czxid, 0}, []int64{stat.Mzxid, stat.Pzxid, stat.EphemeralOwner}, "stat")
	stat, err = c.Set("/go-basic", []byte("two!"), 0)
	ok(err, "set")
	eq([]int32{1, 4}, []int32{stat.Version, stat.DataLength}, "stat after set")
	for _, n := range []string{"b", "a", "c"} {
		create(c, "/go-basic/"+n, "", 0)
	}
	children, stat, err := c.Children("/go-basic")
	ok(err, "children")
	sort.Strings(children)
	eq([]string{"a", "b", "c"}, children, "children")
	eq([]int32{3, 3}, []int32{stat.NumChildren, stat.Cversion}, "stat of children")
	for _, n := range children {
		ok(c.Delete("/go-basic/"+n, 0), "delete")
	}
	ok(c.Delete("/go-basic", 1), "delete")
	eq(false, exists(c, "/go-basic"), "exists")
}

func errorCodes(k *clients) {
	c := k.client()
	create(c, "/go-err", "", 0)
	create(c, "/go-err/kid", "", 0)
	create(c, "/go-err/eph", "", zk.FlagEphemeral)
	errOf := func(_ interface{}, err error) error { return err }
	_, _, noGet := c.Get("/go-err/none")
	_, _, noKids := c.Children("/go-err/none")
	for _, t := range []struct {
		want, got error
		what      string
	}{
		{zk.ErrNoNode, noGet, "get"},
		{zk.ErrNoNode, noKids, "children"},
		{zk.ErrNodeExists, errOf(c.Create("/go-err", nil, 0, open)), "create again"},
		{zk.ErrNoNode, errOf(c.Create("/go-err/none/x", nil, 0, open)), "create below nothing"},
		{zk.ErrNoChildrenForEphemerals, errOf(c.Create("/go-err/eph/x", nil, 0, open)), "create below an ephemeral"},
		{zk.ErrBadVersion, errOf(c.Set("/go-err", nil, 7)), "set"},
		{zk.ErrBadVersion, c.Delete("/go-err/kid", 7), "delete"},
		{zk.ErrNotEmpty, c.Delete("/go-err", -1), "delete with children"},
		{zk.ErrInvalidACL, errOf(c.Create("/go-err/acl", nil, 0, nil)), "no ACL"},
	} {
		if !errors.Is(t.got, t.want) {
			panic(failed(fmt.Sprintf("%s: expected %v, actual %v", t.what, t.want, t.got)))
		}
	}
}

func syncAndLarge(k *clients) {
	a, b := k.client(), k.client()
	large := strings.Repeat("0123456789", 90_000)
	create(a, "/go-large", large, 0)
	path, err := b.Sync("/go-large")
	ok(err, "sync")
	eq("/go-large", path, "path of sync")
	data, _, err := b.Get("/go-large")
	ok(err, "get")
	eq(true, string(data) == large, "the same 900,000 bytes")
}

func ephemeralSequential(k *clients) {
	c, other := k.client(), k.client()
	create(c, "/go-seq", "", 0)
	for i := 0; i < 12; i++ {
		flags := []int32{zk.FlagSequence, zk.FlagEphemeralSequential}[i%2]
		eq(fmt.Sprintf("/go-seq/n-%010d", i), create(c, "/go-seq/n-", "", flags), "path")
	}
	_, stat, err := other.Exists("/go-seq/n-0000000001")
	ok(err, "exists")
	eq(c.SessionID(), stat.EphemeralOwner, "owner")
	c.Close()
	eventually("6 children left", func() bool {
		children, _, err := other.Children("/go-seq")
		ok(err, "children")
		return len(children) == 6
	})
}

func container(k *clients) {
	c := k.client()
	_, err := c.CreateContainer("/go-box", nil, zk.FlagContainer, open)
	ok(err, "createContainer")
	time.Sleep(500 * time.Millisecond) // two sweeps
	eq(true, exists(c, "/go-box"), "a container that never had a child stays")
	create(c, "/go-box/x", "", 0)
	ok(c.Delete("/go-box/x", -1), "delete")
	eventually("the emptied container goes", func() bool { return !exists(c, "/go-box") })
}

func ttl(k *clients) {
	c := k.client()
	create(c, "/go-ttl", "", 0)
	path, err := c.CreateTTL("/go-ttl/n", nil, zk.FlagTTL, open, 300*time.Millisecond)
	ok(err, "createTTL")
	eq("/go-ttl/n", path, "path")
	path, err = c.CreateTTL("/go-ttl/s-", nil, zk.FlagPersistentSequentialWithTTL, open, time.Hour)
	ok(err, "createTTL sequential")
	eq("/go-ttl/s-0000000001", path, "path")
	eventually("the TTL node goes", func() bool { return !exists(c, "/go-ttl/n") })
	eq(true, exists(c, "/go-ttl/s-0000000001"), "the one with an hour stays")
}

func protected(k *clients) {
	c := k.client()
	create(c, "/go-protected", "", 0)
	path, err := c.CreateProtectedEphemeralSequential("/go-protected/n-", nil, open)
	ok(err, "create")
	eq(true, strings.HasPrefix(path, "/go-protected/_c_") && strings.HasSuffix(path, "-n-0000000000"), path)
}

func watches(k *clients) {
	c, other := k.client(), k.client()
	there, _, made, err := c.ExistsW("/go-watch")
	ok(err, "existsW")
	eq(false, there, "exists")
	create(other, "/go-watch", "", 0)
	e := event(made, "create")
	eq([]interface{}{zk.EventNodeCreated, "/go-watch"}, []interface{}{e.Type, e.Path}, "event")
	_, _, data, err := c.GetW("/go-watch")
	ok(err, "getW")
	_, _, kids, err := c.ChildrenW("/go-watch")
	ok(err, "childrenW")
	create(other, "/go-watch/kid", "", 0)
	eq(zk.EventNodeChildrenChanged, event(kids, "children").Type, "children's event")
	select {
	case e := <-data:
		panic(failed(fmt.Sprintf("a data watch fired for a child: %v", e)))
	default:
	}
	_, err = other.Set("/go-watch", []byte("x"), -1)
	ok(err, "set")
	eq(zk.EventNodeDataChanged, event(data, "set").Type, "data's event")
	_, _, data, err = c.GetW("/go-watch/kid")
	ok(err, "getW")
	_, _, kids, err = c.ChildrenW("/go-watch/kid")
	ok(err, "childrenW")
	ok(other.Delete("/go-watch/kid", -1), "delete")
	eq(zk.EventNodeDeleted, event(data, "delete").Type, "data watch at the delete")
	eq(zk.EventNodeDeleted, event(kids, "delete").Type, "child watch at the delete")
}

func watchMany(k *clients) {
	writer := k.client()
	create(writer, "/go-fan", "0", 0)
	var fired []<-chan zk.Event
	var conns []*zk.Conn
	for i := 0; i < 20; i++ {
		c := k.client()
		_, _, w, err := c.GetW("/go-fan")
		ok(err, "getW")
		fired, conns = append(fired, w), append(conns, c)
	}
	_, err := writer.Set("/go-fan", []byte("1"), -1)
	ok(err, "set")
	for i, w := range fired {
		eq(zk.EventNodeDataChanged, event(w, "fan-out").Type, "event")
		data, _, err := conns[i].Get("/go-fan")
		ok(err, "get")
		eq("1", string(data), "data read after the event")
	}
}

func multi(k *clients) {
	c := k.client()
	r, err := c.Multi(
		&zk.CreateRequest{Path: "/go-multi", Data: []byte("1"), Acl: open},
		&zk.CreateRequest{Path: "/go-multi/s-", Acl: open, Flags: zk.FlagSequence},
		&zk.CheckVersionRequest{Path: "/go-multi", Version: 0},
		&zk.SetDataRequest{Path: "/go-multi", Data: []byte("22"), Version: 0},
		&zk.CreateRequest{Path: "/go-multi/gone", Acl: open},
		&zk.DeleteRequest{Path: "/go-multi/gone", Version: -1})
	ok(err, "multi")
	eq(6, len(r), "results")
	eq([]string{"/go-multi", "/go-multi/s-0000000000"}, []string{r[0].String, r[1].String}, "paths")
	eq(int32(1), r[3].Stat.Version, "version")
	_, stat, err := c.Exists("/go-multi")
	ok(err, "exists")
	eq([]int64{stat.Czxid, stat.Czxid}, []int64{stat.Mzxid, stat.Pzxid}, "one zxid for all")
}

func multiFails(k *clients) {
	c := k.client()
	create(c, "/go-multi-fails", "", 0)
	r, err := c.Multi(
		&zk.CreateRequest{Path: "/go-multi-fails/a", Acl: open},
		&zk.CheckVersionRequest{Path: "/go-multi-fails", Version: 9},
		&zk.DeleteRequest{Path: "/go-multi-fails", Version: -1})
	eq(zk.ErrBadVersion, err, "error of the multi")
	eq(3, len(r), "results")
	eq(nil, r[0].Error, "before the failing one")
	eq(zk.ErrBadVersion, r[1].Error, "the failing one")
	eq(true, r[2].Error != nil, "after the failing one")
	eq(false, exists(c, "/go-multi-fails/a"), "created")
}

func digest(k *clients) {
	owner, stranger := k.client(), k.client()
	ok(owner.AddAuth("digest", []byte("bob:secret")), "addAuth")
	acl := append(zk.DigestACL(zk.PermAll, "bob", "secret"), zk.WorldACL(zk.PermRead)...)
	_, err := owner.Create("/go-digest", []byte("x"), 0, acl)
	ok(err, "create")
	_, _, err = stranger.Get("/go-digest")
	ok(err, "a stranger may read")
	_, err = stranger.Set("/go-digest", nil, -1)
	eq(zk.ErrNoAuth, err, "a stranger may not write")
	ok(stranger.AddAuth("digest", []byte("bob:wrong")), "addAuth with a wrong password")
	_, err = stranger.Set("/go-digest", nil, -1)
	eq(zk.ErrNoAuth, err, "a wrong password does not help")
	ok(stranger.AddAuth("digest", []byte("bob:secret")), "addAuth")
	_, err = stranger.Set("/go-digest", nil, -1)
	ok(err, "set with the right one")
	_, err = owner.Create("/go-digest/auth", nil, 0, zk.AuthACL(zk.PermAll))
	ok(err, "create with the creator's ids")
	got, _, err := owner.GetACL("/go-digest/auth")
	ok(err, "getACL")
	eq(zk.DigestACL(zk.PermAll, "bob", "secret"), got, "ACL")
}

func setACL(k *clients) {
	c := k.client()
	create(c, "/go-acl", "", 0)
	stat, err := c.SetACL("/go-acl", zk.WorldACL(zk.PermRead|zk.PermAdmin), 0)
	ok(err, "setACL")
	eq(int32(1), stat.Aversion, "aversion")
	got, _, err := c.GetACL("/go-acl")
	ok(err, "getACL")
	eq(zk.WorldACL(zk.PermRead|zk.PermAdmin), got, "ACL")
	_, err = c.SetACL("/go-acl", open, 0)
	eq(zk.ErrBadVersion, err, "wrong aversion")
	_, err = c.Set("/go-acl", nil, -1)
	eq(zk.ErrNoAuth, err, "set without the permission")
}

func lock(k *clients) {
	checker := k.client()
	create(checker, "/go-count", "0", 0)
	var inside, most int32
	var running sync.WaitGroup
	problems := make(chan error, 4)
	for i := 0; i < 4; i++ {
		c := k.client()
		running.Add(1)
		go func() {
			defer running.Done()
			for n := 0; n < 8; n++ {
				l := zk.NewLock(c, "/go-lock", open)
				if err := l.Lock(); err != nil {
					problems <- err
					return
				}
				if now := atomic.AddInt32(&inside, 1); now > atomic.LoadInt32(&most) {
					atomic.StoreInt32(&most, now)
				}
				data, _, err := c.Get("/go-count")
				if err == nil {
					var n int
					fmt.Sscan(string(data), &n)
					_, err = c.Set("/go-count", []byte(fmt.Sprint(n+1)), -1)
				}
				atomic.AddInt32(&inside, -1)
				if e := l.Unlock(); err == nil {
					err = e
				}
				if err != nil {
					problems <- err
					return
				}
			}
		}()
	}
	running.Wait()
	select {
	case err := <-problems:
		panic(failed(err.Error()))
	default:
	}
	eventually("the counter is 32", func() bool {
		data, _, err := checker.Get("/go-count")
		ok(err, "get")
		return string(data) == "32"
	})
	eq(int32(1), most, "most holders at once")
}

func lockExpiry(k *clients) {
	holder, _ := k.connect(relayed, 2*time.Second)
	waiter := k.client()
	ok(zk.NewLock(holder, "/go-lock-x", open).Lock(), "lock")
	got := make(chan error, 1)
	go func() { got <- zk.NewLock(waiter, "/go-lock-x", open).Lock() }()
	eventually("the waiter has joined", func() bool {
		children, _, err := waiter.Children("/go-lock-x")
		ok(err, "children")
		return len(children) == 2
	})
	do("cut")
	defer do("heal")
	select {
	case err := <-got:
		ok(err, "lock")
	case <-time.After(patience):
		panic(failed("the lock is not passed on"))
	}
}

func pipeline(k *clients) {
	c := k.client()
	create(c, "/go-pipe", "", 0)
	var running sync.WaitGroup
	problems := make(chan string, 200)
	for i := 0; i < 200; i++ {
		running.Add(1)
		go func() {
			defer running.Done()
			path := fmt.Sprintf("/go-pipe/n%d", i)
			if _, err := c.Create(path, []byte(path), 0, open); err != nil {
				problems <- err.Error()
			} else if data, _, err := c.Get(path); err != nil || string(data) != path {
				problems <- fmt.Sprintf("%s: %q %v", path, data, err)
			}
		}()
	}
	running.Wait()
	eq(0, len(problems), "problems of 200 goroutines on one connection")
	children, _, err := c.Children("/go-pipe")
	ok(err, "children")
	eq(200, len(children), "children")
}

// unfired panics if one of the watches was triggered.
func unfired(all ...<-chan zk.Event) {
	for _, w := range all {
		select {
		case e := <-w:
			panic(failed(fmt.Sprintf("a watch fired though nothing changed: %v", e)))
		default:
		}
	}
}

func cut(k *clients) {
	c, _ := k.connect(relayed, longSession)
	other := k.client()
	id := c.SessionID()
	create(c, "/go-cut", "", 0)
	create(c, "/go-cut/eph", "", zk.FlagEphemeral)
	_, _, data, err := c.GetW("/go-cut")
	ok(err, "getW")
	_, _, kids, err := c.ChildrenW("/go-cut")
	ok(err, "childrenW")
	_, _, later, err := c.ExistsW("/go-cut/later")
	ok(err, "existsW")
	do("cut")
	eventually("disconnected", func() bool { return c.State() != zk.StateHasSession })
	_, err = other.Set("/go-cut", []byte("x"), -1)
	ok(err, "set")
	do("heal")
	eventually("connected again", func() bool { return c.State() == zk.StateHasSession })
	eq(id, c.SessionID(), "session")
	eq(zk.EventNodeDataChanged, event(data, "changed while cut").Type, "event")
	unfired(kids, later)
	create(other, "/go-cut/later", "", 0)
	eq(zk.EventNodeChildrenChanged, event(kids, "after the cut").Type, "event")
	eq(zk.EventNodeCreated, event(later, "after the cut").Type, "event")
	_, stat, err := other.Exists("/go-cut/eph")
	ok(err, "exists")
	eq(id, stat.EphemeralOwner, "owner of the ephemeral")
}

func expires(k *clients) {
	c, events := k.connect(relayed, 2*time.Second)
	other := k.client()
	id := c.SessionID()
	create(c, "/go-expires", "", zk.FlagEphemeral)
	_, _, gone, err := other.ExistsW("/go-expires")
	ok(err, "existsW")
	do("cut")
	eq(zk.EventNodeDeleted, event(gone, "the ephemeral goes").Type, "event")
	do("heal")
	for e := event(events, "expiry"); e.State != zk.StateExpired; e = event(events, "expiry") {
	}
	eventually("a new session", func() bool { return c.State() == zk.StateHasSession && c.SessionID() != id })
	create(c, "/go-expires", "", zk.FlagEphemeral)
}

func closes(k *clients) {
	c, other := k.client(), k.client()
	create(c, "/go-closes", "", zk.FlagEphemeral)
	_, _, gone, err := other.ExistsW("/go-closes")
	ok(err, "existsW")
	c.Close()
	eq(zk.EventNodeDeleted, event(gone, "close").Type, "event")
	_, _, err = c.Get("/")
	eq(true, err != nil, "a closed client fails")
}

// The client's parsers of srvr and cons do not know the lines of ZooKeeper 3.9.
func words(*clients) {
	eq([]bool{true}, zk.FLWRuok([]string{direct}, patience), "ruok")
}

func restart(k *clients) {
	c := k.client()
	ok(c.AddAuth("digest", []byte("eve:pw")), "addAuth")
	_, err := c.Create("/go-restart", []byte("x"), 0, zk.AuthACL(zk.PermAll))
	ok(err, "create")
	id := c.SessionID()
	_, err = c.Create("/go-restart/eph", nil, zk.FlagEphemeral, zk.AuthACL(zk.PermAll))
	ok(err, "create")
	_, _, data, err := c.GetW("/go-restart")
	ok(err, "getW")
	do("kill", "start")
	eventually("connected again", func() bool { return c.State() == zk.StateHasSession })
	eq(id, c.SessionID(), "session")
	eventually("authenticated again", func() bool {
		_, stat, err := c.Get("/go-restart/eph")
		return err == nil && stat.EphemeralOwner == id
	})
	unfired(data)
	_, err = c.Set("/go-restart", []byte("y"), 0)
	ok(err, "set")
	eq(zk.EventNodeDataChanged, event(data, "set after the restart").Type, "event")
	_, _, err = k.client().Get("/go-restart")
	eq(zk.ErrNoAuth, err, "a stranger")
}
