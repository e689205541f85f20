package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

type clients []*clientv3.Client

// dial opens n clients and waits until each is connected.
func dial(server string, n int) (clients, error) {
	all := make(clients, n)
	errs := make([]error, n)
	var wait sync.WaitGroup
	gate := make(chan struct{}, 64)
	for i := range all {
		wait.Go(func() {
			gate <- struct{}{}
			defer func() { <-gate }()
			all[i], errs[i] = clientv3.New(clientv3.Config{
				Endpoints:   []string{server},
				DialTimeout: 10 * time.Second,
				Logger:      zap.NewNop(),
			})
			if errs[i] == nil {
				ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
				defer cancel()
				_, errs[i] = all[i].Get(ctx, "/zabra-load", clientv3.WithCountOnly())
			}
		})
	}
	wait.Wait()
	if err := errors.Join(errs...); err != nil {
		all.close()
		return nil, fmt.Errorf("%s: %w", server, err)
	}
	return all, nil
}

func (c clients) close() {
	var wait sync.WaitGroup
	for _, one := range c {
		if one != nil {
			wait.Go(func() { one.Close() }) // what is left of the connection ends with this process anyway
		}
	}
	wait.Wait()
}

// Kinds of requests, indexes of histograms.
const (
	first = iota
	second
)

// work knows what is asked next and whether the answer is right.
type work struct {
	args arguments
	stem string
	run  string
	data []byte
	text string
	next []atomic.Uint64
}

func newWork(args arguments) *work {
	rng := rand.New(rand.NewSource(args.Seed))
	data := make([]byte, args.Size)
	rng.Read(data)
	return &work{
		args: args,
		stem: args.root + "/k",
		// As long as zabra-load's, whose parent is named after a session.
		run:  fmt.Sprintf("%s/r%015x", args.root, time.Now().UnixNano()&0xfffffffffffffff),
		data: data,
		text: string(data),
		next: make([]atomic.Uint64, args.Connections),
	}
}

func (w *work) kinds() []string {
	if w.args.Load == "mixed" {
		return []string{"get", "set"}
	}
	return []string{w.args.Load}
}

func (w *work) key(n int) string { return fmt.Sprintf("%s%010d", w.stem, n) }

// setUp compacts the history that earlier runs left and gives every key this run's data.
func (w *work) setUp(ctx context.Context, all clients) error {
	if _, err := all[0].Delete(ctx, w.args.root+"/r", clientv3.WithPrefix()); err != nil {
		return fmt.Errorf("set-up: delete: %w", err)
	}
	if err := w.putAll(ctx, all); err != nil {
		return fmt.Errorf("set-up: put: %w", err)
	}
	now, err := all[0].Get(ctx, w.args.root, clientv3.WithCountOnly())
	if err != nil {
		return fmt.Errorf("set-up: %w", err)
	}
	_, err = all[0].Compact(ctx, now.Header.Revision, clientv3.WithCompactPhysical())
	if err != nil && !errors.Is(err, rpctypes.ErrCompacted) {
		return fmt.Errorf("set-up: compact: %w", err)
	}
	return nil
}

// putAll writes every key, some at a time: each waits for a sync of the disk, which several can share.
func (w *work) putAll(ctx context.Context, all clients) error {
	var wait sync.WaitGroup
	errs := make([]error, 16)
	for i := range errs {
		wait.Go(func() {
			for n := i; n < w.args.Keys && errs[i] == nil; n += len(errs) {
				_, errs[i] = all[i%len(all)].Put(ctx, w.key(n), w.text)
			}
		})
	}
	wait.Wait()
	return errors.Join(errs...)
}

func (w *work) cleanUp(ctx context.Context, all clients) error {
	if w.args.Load != "create" {
		return nil
	}
	_, err := all[0].Delete(ctx, w.run, clientv3.WithPrefix())
	return err
}

// do asks once on connection at, checks the answer and returns the kind.
func (w *work) do(ctx context.Context, at int, c *clientv3.Client, rng *rand.Rand) (int, error) {
	switch w.args.Load {
	case "get":
		return first, w.get(ctx, c, w.key(rng.Intn(w.args.Keys)))
	case "set":
		return first, w.put(ctx, c, w.key(rng.Intn(w.args.Keys)))
	case "create":
		n := w.next[at].Add(1)
		return first, w.put(ctx, c, fmt.Sprintf("%s/c%05d/n%010d", w.run, at, n))
	case "mixed":
		if rng.Intn(100) < w.args.Reads {
			return first, w.get(ctx, c, w.key(rng.Intn(w.args.Keys)))
		}
		return second, w.put(ctx, c, w.key(rng.Intn(w.args.Keys)))
	default:
		return first, w.txn(ctx, c, rng)
	}
}

func (w *work) get(ctx context.Context, c *clientv3.Client, key string) error {
	var options []clientv3.OpOption
	if !w.args.Linearizable {
		options = append(options, clientv3.WithSerializable())
	}
	r, err := c.Get(ctx, key, options...)
	if err != nil {
		return fmt.Errorf("get: %w", err)
	}
	if len(r.Kvs) != 1 || !bytes.Equal(r.Kvs[0].Value, w.data) {
		return fmt.Errorf("get %s: wrong answer: %d keys", key, len(r.Kvs))
	}
	return nil
}

func (w *work) put(ctx context.Context, c *clientv3.Client, key string) error {
	r, err := c.Put(ctx, key, w.text)
	if err != nil {
		return fmt.Errorf("put: %w", err)
	}
	if r.Header.Revision <= 0 {
		return fmt.Errorf("put %s: no revision", key)
	}
	return nil
}

func (w *work) txn(ctx context.Context, c *clientv3.Client, rng *rand.Rand) error {
	// etcd refuses the same key twice in one transaction.
	taken := make(map[int]struct{}, w.args.Ops)
	ops := make([]clientv3.Op, 0, w.args.Ops)
	for len(ops) < w.args.Ops {
		n := rng.Intn(w.args.Keys)
		if _, again := taken[n]; again {
			continue
		}
		taken[n] = struct{}{}
		ops = append(ops, clientv3.OpPut(w.key(n), w.text))
	}
	r, err := c.Txn(ctx).Then(ops...).Commit()
	if err != nil {
		return fmt.Errorf("txn: %w", err)
	}
	if !r.Succeeded || len(r.Responses) != w.args.Ops {
		return fmt.Errorf("txn: wrong answer: %d results", len(r.Responses))
	}
	return nil
}
