package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// fanout: every client watches one key, one more client changes it, and the next change waits until all were told.
func fanout(args arguments, watchers clients, rec *recorder) (*report, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	rec.kinds([]string{"event"})
	changer, err := dial(args.Server, 1)
	if err != nil {
		return nil, err
	}
	defer changer.close()
	w := newWork(args)
	key := args.root + "/w0000000000"
	if _, err := changer[0].Put(ctx, key, w.text); err != nil {
		return nil, fmt.Errorf("put: %w", err)
	}
	f := &fan{rec: rec, told: make(chan error, len(watchers))}
	if err := f.watch(ctx, watchers, key); err != nil {
		return nil, err
	}
	if err := rec.ready(); err != nil {
		return nil, err
	}
	warmEnd := time.Now().Add(time.Duration(args.WarmUp * float64(time.Second)))
	var end time.Time
	var rounds int
	var delivering time.Duration
	last := newHistogram()
	for measuring := false; ; {
		now := time.Now()
		if !measuring && !now.Before(warmEnd) {
			if err := rec.begin(); err != nil {
				return nil, err
			}
			measuring = true
			end = now.Add(time.Duration(args.Seconds * float64(time.Second)))
		}
		if measuring && !now.Before(end) {
			break
		}
		took, err := f.round(ctx, changer[0], key, w.text, len(watchers), args.stall)
		if err != nil {
			return nil, err
		}
		if measuring {
			rounds++
			delivering += took
			record(last, took)
		}
	}
	out, err := rec.end()
	if err != nil {
		return nil, err
	}
	out.Extra = map[string]float64{
		"events_per_second_while_delivering": float64(out.Ops) / delivering.Seconds(),
		"changes_per_second":                 float64(rounds) / out.Seconds,
		"p50_of_the_last_session_told":       float64(last.ValueAtQuantile(50)) / 1e3,
		"p99_of_the_last_session_told":       float64(last.ValueAtQuantile(99)) / 1e3,
	}
	return out, nil
}

type fan struct {
	rec *recorder
	// When the current change was asked for, nanoseconds since base.
	set  atomic.Int64
	told chan error
}

var base = time.Now()

func (f *fan) watch(ctx context.Context, watchers clients, key string) error {
	var ready sync.WaitGroup
	ready.Add(len(watchers))
	failed := make(chan error, len(watchers))
	for at, c := range watchers {
		go func() {
			events := c.Watch(ctx, key, clientv3.WithCreatedNotify())
			if r, ok := <-events; !ok || r.Err() != nil {
				failed <- fmt.Errorf("watcher %d: not created", at)
				ready.Done()
				return
			}
			ready.Done()
			for r := range events {
				now := time.Since(base)
				if err := r.Err(); err != nil {
					f.told <- fmt.Errorf("watcher %d: %w", at, err)
					return
				}
				for range r.Events {
					took := now - time.Duration(f.set.Load())
					f.rec.reply(at, first, took, took)
					f.told <- nil
				}
			}
		}()
	}
	ready.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

func (f *fan) round(ctx context.Context, c *clientv3.Client, key, text string, due int, stall time.Duration) (time.Duration, error) {
	began := time.Since(base)
	f.set.Store(int64(began))
	put := make(chan error, 1)
	go func() {
		_, err := c.Put(ctx, key, text)
		put <- err
	}()
	late := time.NewTimer(stall)
	defer late.Stop()
	for left := due; left > 0; left-- {
		select {
		case err := <-f.told:
			if err != nil {
				return 0, err
			}
		case <-late.C:
			return 0, fmt.Errorf("%d of %d events are missing after %v", left, due, stall)
		}
	}
	took := time.Since(base) - began
	if err := <-put; err != nil {
		return 0, fmt.Errorf("put: %w", err)
	}
	return took, nil
}
