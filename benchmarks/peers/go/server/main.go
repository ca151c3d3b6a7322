// The server of grpc-go.
package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"math"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"benchmark/bench"
	"benchmark/echo"
)

type server struct{ echo.UnimplementedBenchServer }

func (server) Unary(_ context.Context, request *echo.Echo) (*echo.Echo, error) {
	return request, nil
}

func (server) Hold(ctx context.Context, request *echo.Echo) (*echo.Echo, error) {
	select {
	case <-time.After(time.Duration(request.Number) * time.Millisecond):
	case <-ctx.Done():
	}
	return request, nil
}

func (server) Burn(_ context.Context, request *echo.Echo) (*echo.Echo, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for end := threadTime() + time.Duration(request.Number)*time.Microsecond; threadTime() < end; {
	}
	return request, nil
}

func threadTime() time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &now); err != nil {
		panic(err)
	}
	return time.Duration(now.Nano())
}

func (server) ServerStream(flow *echo.Flow, stream grpc.ServerStreamingServer[echo.Echo]) error {
	message := &echo.Echo{Payload: bench.Payload(int(flow.Size))}
	for range flow.Count {
		if err := stream.Send(message); err != nil {
			return err
		}
	}
	return nil
}

func (server) ClientStream(stream grpc.ClientStreamingServer[echo.Echo, echo.Echo]) error {
	for count := uint64(0); ; count++ {
		if _, err := stream.Recv(); err == io.EOF {
			return stream.SendAndClose(&echo.Echo{Number: count})
		} else if err != nil {
			return err
		}
	}
}

func (server) BidiStream(stream grpc.BidiStreamingServer[echo.Echo, echo.Echo]) error {
	for {
		message, err := stream.Recv()
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := stream.Send(message); err != nil {
			return err
		}
	}
}

// wide is 50 services with 10 methods each, as in benchmarks/wide.py.
func wide(s *grpc.Server) {
	handler := func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		request := new(echo.Echo)
		if err := decode(request); err != nil {
			return nil, err
		}
		return request, nil
	}
	for number := range 50 {
		service := &grpc.ServiceDesc{ServiceName: fmt.Sprintf("benchmark.Wide%02d", number), HandlerType: (*any)(nil)}
		for method := range 10 {
			service.Methods = append(service.Methods, grpc.MethodDesc{MethodName: fmt.Sprintf("M%d", method), Handler: handler})
		}
		s.RegisterService(service, nil)
	}
}

func passOn(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	return handler(ctx, request)
}

func main() {
	endpoint := bench.ParseEndpoint()
	options := []grpc.ServerOption{grpc.MaxRecvMsgSize(math.MaxInt32), grpc.MaxSendMsgSize(math.MaxInt32)}
	if endpoint.Interceptor == "server" {
		options = append(options, grpc.UnaryInterceptor(passOn))
	}
	if endpoint.TLS != "" {
		pair, err := tls.LoadX509KeyPair(filepath.Join(endpoint.TLS, "cert.pem"), filepath.Join(endpoint.TLS, "key.pem"))
		if err != nil {
			log.Fatal(err)
		}
		options = append(options, grpc.Creds(credentials.NewServerTLSFromCert(&pair)))
	}
	network, address := "tcp", endpoint.Address
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, address = "unix", path
	}
	listener, err := net.Listen(network, address)
	if err != nil {
		log.Fatal(err)
	}
	s := grpc.NewServer(options...)
	echo.RegisterBenchServer(s, server{})
	if endpoint.Wide {
		wide(s)
	}
	log.Fatal(s.Serve(listener))
}
