// The client of grpc-go: a goroutine for each call or stream in flight.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"benchmark/bench"
	"benchmark/echo"
)

var errWrongReply = errors.New("wrong reply")

type connection struct {
	*grpc.ClientConn
	stub echo.BenchClient
	wide bool
}

func connect(endpoint bench.Endpoint) (*connection, error) {
	options := []grpc.DialOption{grpc.WithDefaultCallOptions(
		grpc.MaxCallRecvMsgSize(math.MaxInt32), grpc.MaxCallSendMsgSize(math.MaxInt32))}
	secure := insecure.NewCredentials()
	if endpoint.TLS != "" {
		var err error
		if secure, err = credentials.NewClientTLSFromFile(filepath.Join(endpoint.TLS, "ca.pem"), ""); err != nil {
			return nil, err
		}
	}
	options = append(options, grpc.WithTransportCredentials(secure))
	if endpoint.Interceptor == "client" {
		options = append(options, grpc.WithUnaryInterceptor(passOn))
	}
	conn, err := grpc.NewClient(endpoint.Address, options...)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn.Connect()
	for state := conn.GetState(); state != connectivity.Ready; state = conn.GetState() {
		if !conn.WaitForStateChange(ctx, state) {
			return nil, fmt.Errorf("cannot connect to %s", endpoint.Address)
		}
	}
	return &connection{conn, echo.NewBenchClient(conn), endpoint.Wide}, nil
}

func passOn(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn,
	invoker grpc.UnaryInvoker, options ...grpc.CallOption) error {
	return invoker(ctx, method, request, reply, conn, options...)
}

type method func(context.Context, *echo.Echo, ...grpc.CallOption) (*echo.Echo, error)

func (c *connection) unary(ctx context.Context, request *echo.Echo, options ...grpc.CallOption) (*echo.Echo, error) {
	if !c.wide {
		return c.stub.Unary(ctx, request, options...)
	}
	reply := new(echo.Echo)
	return reply, c.Invoke(ctx, "/benchmark.Wide49/M9", request, reply, options...)
}

// caller makes the calls of a work: each with a message of its own.
func caller(work bench.Work, invoke method) func(uint64) error {
	text, payload := "", []byte(nil)
	if work.Size == len(bench.Text) {
		text = bench.Text
	} else {
		payload = bench.Payload(work.Size)
	}
	background := context.Background()
	if work.Metadata {
		background = metadata.AppendToOutgoingContext(background,
			"x-request-id", "5f0c8d3e", "x-tenant", "acme", "x-trace", "00-4bf92f-01")
	}
	return func(number uint64) error {
		ctx := background
		if work.Deadline {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, bench.Deadline)
			defer cancel()
		}
		reply, err := invoke(ctx, &echo.Echo{Text: text, Number: number, Payload: payload})
		if err == nil && reply.Number != number {
			err = errWrongReply
		}
		return err
	}
}

type connections []*connection

func (c connections) close() {
	for _, conn := range c {
		conn.Close()
	}
}

func measure(endpoint bench.Endpoint, work bench.Work) (*bench.Result, error) {
	switch work.Kind {
	case "idle":
		return idle(endpoint, work)
	case "held":
		return held(endpoint, work)
	}
	var all connections
	defer func() { all.close() }()
	for range work.Connections {
		conn, err := connect(endpoint)
		if err != nil {
			return nil, err
		}
		all = append(all, conn)
	}
	background := startBackground(work.Background, all[0])
	if work.Warmup > 0 {
		kind := work.Kind
		if kind == "open" {
			kind = "unary"
		}
		if _, err := perform(kind, work, all, work.Warmup); err != nil {
			return nil, err
		}
	}
	before := background.count.Load()
	bench.Event("begin")
	result, err := perform(work.Kind, work, all, work.Seconds)
	bench.Event("end")
	if err != nil {
		return nil, err
	}
	result.Background = int(background.count.Load() - before)
	return result, background.stop()
}

func perform(kind string, work bench.Work, all connections, length time.Duration) (*bench.Result, error) {
	switch kind {
	case "unary":
		return closedLoop(work, all, length)
	case "open":
		return openLoop(work, all, length)
	case "ping_pong":
		return pingPong(work, all, length)
	case "server_stream":
		return streams(work, all, length, serverStream)
	case "client_stream":
		return streams(work, all, length, clientStream)
	case "bidi":
		return streams(work, all, length, bidi)
	}
	return nil, fmt.Errorf("unknown kind of work: %s", kind)
}

// background makes one call after the other on the side.
type background struct {
	count   atomic.Int64
	stopped atomic.Bool
	ended   chan error
}

func startBackground(kind string, conn *connection) *background {
	b := &background{ended: make(chan error, 1)}
	var call func(uint64) error
	number := uint64(1)
	switch kind {
	case "burn":
		call = caller(bench.Work{Size: len(bench.Text)}, conn.stub.Burn)
		number = bench.BurnMicroseconds
	case "large":
		call = caller(bench.Work{Size: bench.LargeBytes}, conn.stub.Unary)
	default:
		b.ended <- nil
		return b
	}
	go func() {
		for !b.stopped.Load() {
			if err := call(number); err != nil {
				b.ended <- err
				return
			}
			b.count.Add(1)
		}
		b.ended <- nil
	}()
	return b
}

func (b *background) stop() error {
	b.stopped.Store(true)
	return <-b.ended
}

func closedLoop(work bench.Work, all connections, length time.Duration) (*bench.Result, error) {
	result := &bench.Result{}
	begin := time.Now()
	var group errgroup.Group
	for worker := range work.Concurrency {
		conn := all[worker%len(all)]
		group.Go(func() error {
			var latency bench.Histogram
			call := caller(work, conn.unary)
			calls := 0
			for started := time.Now(); ; {
				if err := call(uint64(worker + calls*work.Concurrency)); err != nil {
					return err
				}
				now := time.Now()
				latency.Record(now.Sub(started))
				calls++
				if now.Sub(begin) >= length {
					break
				}
				started = now
			}
			result.Add(calls, &latency)
			return nil
		})
	}
	err := group.Wait()
	result.Seconds = time.Since(begin).Seconds()
	return result, err
}

// openLoop sends what is due whenever it wakes, whatever became of earlier calls.
func openLoop(work bench.Work, all connections, length time.Duration) (*bench.Result, error) {
	result := &bench.Result{}
	call := caller(work, all[0].unary)
	total := int(work.Rate * length.Seconds())
	var mutex sync.Mutex
	var failure error
	var running atomic.Int64
	ended := make(chan struct{}, total)
	begin := time.Now()
	sent := 0
	for sent < total && float64(running.Load()) < work.Rate*bench.LostSeconds {
		due := min(total, int(time.Since(begin).Seconds()*work.Rate)+1)
		for ; sent < due; sent++ {
			intended := begin.Add(time.Duration(float64(sent) / work.Rate * 1e9))
			number := uint64(sent)
			running.Add(1)
			go func() {
				lateness := time.Since(intended)
				err := call(number)
				latency := time.Since(intended)
				running.Add(-1)
				mutex.Lock()
				result.Lateness.Record(lateness)
				result.Latency.Record(latency)
				result.Calls++
				failure = errors.Join(failure, err)
				mutex.Unlock()
				ended <- struct{}{}
			}()
		}
		next := begin.Add(time.Duration(float64(sent) / work.Rate * 1e9))
		time.Sleep(max(time.Until(next), bench.Tick))
	}
	result.Seconds = time.Since(begin).Seconds()
	patience := time.After(bench.Drain)
	answered := 0
	for late := false; answered < sent && !late; {
		select {
		case <-ended:
			answered++
		case <-patience:
			late = true
		}
	}
	unanswered := total - answered
	for ; answered < sent; answered++ {
		<-ended
	}
	result.Unanswered = unanswered
	return result, failure
}

// streams runs streams of equal length one after the other; long enough that opening one hardly
// counts.
func streams(work bench.Work, all connections, length time.Duration,
	stream func(*connection, int, []byte) error) (*bench.Result, error) {
	payload := bench.Payload(work.Size)
	together := func(repeat func(*connection) error) error {
		var group errgroup.Group
		for worker := range work.Concurrency {
			group.Go(func() error { return repeat(all[worker%len(all)]) })
		}
		return group.Wait()
	}
	least := max(20, min(500, 1<<20/work.Size)/work.Concurrency)
	begin := time.Now()
	if err := together(func(c *connection) error { return stream(c, least, payload) }); err != nil {
		return nil, err
	}
	now := time.Now()
	perMessage := now.Sub(begin).Seconds() / float64(least)
	count := max(least, int(length.Seconds()/3/perMessage))
	result := &bench.Result{}
	// Of the measured CPU time, so of what is measured.
	result.Add(least*work.Concurrency, &bench.Histogram{})
	err := together(func(c *connection) error {
		for time.Since(now) < length {
			if err := stream(c, count, payload); err != nil {
				return err
			}
			result.Add(count, &bench.Histogram{})
		}
		return nil
	})
	result.Seconds = time.Since(begin).Seconds()
	return result, err
}

func serverStream(conn *connection, count int, payload []byte) error {
	flow := &echo.Flow{Count: uint64(count), Size: uint64(len(payload))}
	stream, err := conn.stub.ServerStream(context.Background(), flow)
	if err != nil {
		return err
	}
	return receive(stream.Recv, count)
}

func clientStream(conn *connection, count int, payload []byte) error {
	stream, err := conn.stub.ClientStream(context.Background())
	if err != nil {
		return err
	}
	message := &echo.Echo{Payload: payload}
	for range count {
		if err := stream.Send(message); err != nil {
			return err
		}
	}
	answer, err := stream.CloseAndRecv()
	if err == nil && answer.Number != uint64(count) {
		err = errWrongReply
	}
	return err
}

func bidi(conn *connection, count int, payload []byte) error {
	stream, err := conn.stub.BidiStream(context.Background())
	if err != nil {
		return err
	}
	var group errgroup.Group
	group.Go(func() error {
		message := &echo.Echo{Payload: payload}
		for range count {
			if err := stream.Send(message); err != nil {
				return err
			}
		}
		return stream.CloseSend()
	})
	group.Go(func() error { return receive(stream.Recv, count) })
	return group.Wait()
}

func receive(next func() (*echo.Echo, error), count int) error {
	for received := 0; ; received++ {
		if _, err := next(); err == io.EOF && received == count {
			return nil
		} else if err == io.EOF {
			return errWrongReply
		} else if err != nil {
			return err
		}
	}
}

func pingPong(work bench.Work, all connections, length time.Duration) (*bench.Result, error) {
	result := &bench.Result{}
	begin := time.Now()
	var group errgroup.Group
	for worker := range work.Concurrency {
		conn := all[worker%len(all)]
		group.Go(func() error {
			stream, err := conn.stub.BidiStream(context.Background())
			if err != nil {
				return err
			}
			var latency bench.Histogram
			message := &echo.Echo{Payload: bench.Payload(work.Size)}
			calls := 0
			for started := time.Now(); time.Since(begin) < length; calls++ {
				if err := stream.Send(message); err != nil {
					return err
				}
				if _, err := stream.Recv(); err != nil {
					return err
				}
				now := time.Now()
				latency.Record(now.Sub(started))
				started = now
			}
			result.Add(calls, &latency)
			if err := stream.CloseSend(); err != nil {
				return err
			}
			return receive(stream.Recv, 0)
		})
	}
	err := group.Wait()
	result.Seconds = time.Since(begin).Seconds()
	return result, err
}

func idle(endpoint bench.Endpoint, work bench.Work) (*bench.Result, error) {
	var all connections
	defer func() { all.close() }()
	add := func() error {
		conn, err := connect(endpoint)
		if err != nil {
			return err
		}
		all = append(all, conn)
		return caller(work, conn.unary)(1)
	}
	for range work.Connections {
		if err := add(); err != nil {
			return nil, err
		}
	}
	begin := time.Now()
	bench.Event("begin")
	for range work.Connections {
		if err := add(); err != nil {
			return nil, err
		}
	}
	bench.Event("end")
	return &bench.Result{Calls: work.Connections, Seconds: time.Since(begin).Seconds()}, nil
}

func held(endpoint bench.Endpoint, work bench.Work) (*bench.Result, error) {
	conn, err := connect(endpoint)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	call := caller(work, conn.stub.Hold)
	var answered atomic.Int64
	var group errgroup.Group
	hold := func() {
		for range work.Concurrency {
			group.Go(func() error {
				defer answered.Add(1)
				return call(bench.HoldMilliseconds)
			})
		}
		time.Sleep(bench.Settle)
	}
	hold()
	bench.Event("begin")
	hold()
	bench.Event("end")
	early := int(answered.Load())
	err = group.Wait()
	return &bench.Result{Calls: work.Concurrency, Seconds: bench.Settle.Seconds(), Unanswered: early}, err
}

func main() {
	endpoint := bench.ParseEndpoint()
	bench.ReadWorks(func(work bench.Work) (*bench.Result, error) { return measure(endpoint, work) })
}
