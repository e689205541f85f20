package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"golang.org/x/sys/unix"
)

// An open loop with this many requests unanswered is not held; the next ones are late, and their latency says so.
const mostInFlight = 20_000

// shared is what the goroutines of one run have in common.
type shared struct {
	work     *work
	rec      *recorder
	inFlight atomic.Int64
	stopped  atomic.Bool
	failure  atomic.Pointer[error]
	replies  atomic.Uint64
	refused  atomic.Uint64
}

func (s *shared) fail(err error) {
	s.failure.CompareAndSwap(nil, &err)
	s.stopped.Store(true)
}

// one asks once and records.
func (s *shared) one(ctx context.Context, at int, all clients, rng *rand.Rand, planned time.Time) {
	sent := time.Now()
	if planned.IsZero() {
		planned = sent
	}
	kind, err := s.work.do(ctx, at, all[at], rng)
	// etcd's way of saying that it is offered too much: a rate that was not held, not a failure.
	if s.work.args.Rate != nil && errors.Is(err, rpctypes.ErrTooManyRequests) {
		s.refused.Add(1)
		return
	}
	if err != nil {
		s.fail(fmt.Errorf("connection %d: %w", at, err))
		return
	}
	now := time.Now()
	s.replies.Add(1)
	s.rec.reply(at, kind, now.Sub(planned), now.Sub(sent))
}

func steady(args arguments, all clients, rec *recorder) (*report, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s := &shared{work: newWork(args), rec: rec}
	rec.kinds(s.work.kinds())
	if err := s.work.setUp(ctx, all); err != nil {
		return nil, err
	}
	if err := rec.ready(); err != nil {
		return nil, err
	}
	var wait sync.WaitGroup
	held := true
	if args.Rate != nil {
		wait.Go(func() { held = s.open(ctx, all, *args.Rate, &wait) })
	} else {
		for at := range all {
			for d := range *args.Depth {
				wait.Go(func() {
					rng := rand.New(rand.NewSource(args.Seed<<32 + int64(at)<<16 + int64(d)))
					for !s.stopped.Load() {
						s.one(ctx, at, all, rng, time.Time{})
					}
				})
			}
		}
	}
	out, err := s.measure(args)
	s.stopped.Store(true)
	// Answers that are still due are waited for, but not for ever.
	late := time.AfterFunc(args.stall, cancel)
	wait.Wait()
	late.Stop()
	if failure := s.failure.Load(); failure != nil && err == nil {
		err = *failure
	}
	if err != nil {
		return nil, err
	}
	if args.Rate != nil {
		out.Extra["refused"] = float64(s.refused.Load())
		held = held && s.refused.Load() == 0 && out.Rate >= 0.99**args.Rate
		out.Held = &held
	}
	return out, s.work.cleanUp(context.Background(), all)
}

// measure lets warm-up pass, then the measured time.
func (s *shared) measure(args arguments) (*report, error) {
	if err := s.sleep(args, args.WarmUp); err != nil {
		return nil, err
	}
	if err := s.rec.begin(); err != nil {
		return nil, err
	}
	if err := s.sleep(args, args.Seconds); err != nil {
		return nil, err
	}
	return s.rec.end()
}

// sleep is over early when the run has failed.
func (s *shared) sleep(args arguments, seconds float64) error {
	end := time.Now().Add(time.Duration(seconds * float64(time.Second)))
	heard, last := time.Now(), s.replies.Load()
	for time.Now().Before(end) && !s.stopped.Load() {
		time.Sleep(min(50*time.Millisecond, time.Until(end)))
		if now := s.replies.Load(); now != last {
			heard, last = time.Now(), now
		}
		if time.Since(heard) > args.stall {
			return fmt.Errorf("no answer for %v (--stall)", args.stall)
		}
	}
	if failure := s.failure.Load(); failure != nil {
		return *failure
	}
	return nil
}

// open sends at a fixed rate whatever the server does; false when too many requests waited.
func (s *shared) open(ctx context.Context, all clients, rate float64, wait *sync.WaitGroup) bool {
	// Go's own timers are a millisecond coarse when nothing else happens.
	runtime.LockOSThread()
	// Only precision depends on it.
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1000, 0, 0, 0)
	rngs := sync.Pool{New: func() any { return rand.New(rand.NewSource(rand.Int63())) }}
	pause := func(d time.Duration) {
		t := unix.NsecToTimespec(int64(d))
		// Cut short by a signal: the loop looks again.
		_ = unix.Nanosleep(&t, nil)
	}
	began, held := time.Now(), true
	for n := uint64(0); !s.stopped.Load(); {
		due := began.Add(time.Duration(float64(n) / rate * 1e9))
		if left := time.Until(due); left > 0 {
			pause(max(left, 20*time.Microsecond))
			continue
		}
		if s.inFlight.Load() >= mostInFlight {
			held = false
			pause(time.Millisecond)
			continue
		}
		s.inFlight.Add(1)
		at := int(n % uint64(len(all)))
		wait.Go(func() {
			defer s.inFlight.Add(-1)
			rng := rngs.Get().(*rand.Rand)
			defer rngs.Put(rng)
			s.one(ctx, at, all, rng, due)
		})
		n++
	}
	return held
}
