// The server and the client of the README, of HTTP and of gRPC.
package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
)

func check(err error) {
	if err != nil {
		panic(err)
	}
}

type journal struct {
	lock sync.Mutex
	file *os.File
}

func (j *journal) line(words ...any) {
	j.lock.Lock()
	defer j.lock.Unlock()
	_, err := fmt.Fprintln(j.file, words...)
	check(err)
}

func listen(log string) (net.Listener, *journal) {
	file, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	check(err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	return listener, &journal{file: file}
}

// Whether all of it is encrypted.
var encrypted = os.Getenv("PEER_TLS") != ""

func protocols() *http.Protocols {
	protocols := new(http.Protocols)
	protocols.SetHTTP2(encrypted)
	protocols.SetUnencryptedHTTP2(!encrypted)
	return protocols
}

// own is a configuration with a new certificate that nobody has signed but itself.
func own() *tls.Config {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	check(err)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{certificate}, PrivateKey: key}}}
}

// anybody is a configuration that trusts any server.
func anybody() *tls.Config {
	return &tls.Config{InsecureSkipVerify: true}
}

func serveHTTP(log string) {
	listener, journal := listen(log)
	handler := func(w http.ResponseWriter, r *http.Request) {
		code := http.StatusOK
		switch r.URL.Path {
		case "/post":
			code = http.StatusCreated
		case "/missing":
			code = http.StatusNotFound
		}
		_, err := io.Copy(io.Discard, r.Body)
		check(err)
		w.WriteHeader(code)
		fmt.Fprint(w, "twelve bytes")
		journal.line(r.Method, r.URL.Path, code)
	}
	server := &http.Server{Handler: http.HandlerFunc(handler), Protocols: protocols()}
	if encrypted {
		server.TLSConfig = own()
		check(server.ServeTLS(listener, "", ""))
	}
	check(server.Serve(listener))
}

// rounds calls round so many times in each of so many workers at once, one number after the other.
func rounds(workers, times string, round func(worker, round int)) {
	count, err := strconv.Atoi(times)
	check(err)
	for _, number := range strings.Split(workers, ",") {
		number, err := strconv.Atoi(number)
		check(err)
		var group sync.WaitGroup
		for worker := range number {
			group.Add(1)
			go func() {
				defer group.Done()
				for n := range count {
					round(worker, n)
				}
			}()
		}
		group.Wait()
	}
}

func askHTTP(port, workers, times string) {
	client := &http.Client{Transport: &http.Transport{Protocols: protocols(), TLSClientConfig: anybody()}}
	scheme := "http"
	if encrypted {
		scheme = "https"
	}
	do := func(method, path string, body []byte, code int) {
		request, err := http.NewRequest(method, scheme+"://127.0.0.1:"+port+path, bytes.NewReader(body))
		check(err)
		response, err := client.Do(request)
		check(err)
		defer response.Body.Close()
		_, err = io.Copy(io.Discard, response.Body)
		check(err)
		if response.StatusCode != code || response.ProtoMajor != 2 {
			panic(response.Status)
		}
	}
	// Before there are many there is one connection.
	do("GET", "/first", nil, 200)
	rounds(workers, times, func(worker, round int) {
		do("GET", fmt.Sprintf("/w%d/r%d", worker, round), nil, 200)
		do("POST", "/post?token=QZQZQZQZ", make([]byte, 3000), 201)
		do("GET", "/missing", nil, 404)
	})
}

type service struct {
	pb.UnimplementedTestServiceServer
}

func (service) EmptyCall(context.Context, *pb.Empty) (*pb.Empty, error) {
	return &pb.Empty{}, nil
}

func (service) UnaryCall(_ context.Context, in *pb.SimpleRequest) (*pb.SimpleResponse, error) {
	if asked := in.GetResponseStatus(); asked != nil {
		return nil, status.Error(codes.Code(asked.Code), "QZQZQZQZ")
	}
	return &pb.SimpleResponse{}, nil
}

func (service) StreamingOutputCall(
	in *pb.StreamingOutputCallRequest, out pb.TestService_StreamingOutputCallServer,
) error {
	for _, asked := range in.ResponseParameters {
		payload := &pb.Payload{Body: make([]byte, asked.Size)}
		if err := out.Send(&pb.StreamingOutputCallResponse{Payload: payload}); err != nil {
			return err
		}
	}
	return nil
}

func serveGRPC(log string) {
	listener, journal := listen(log)
	unary := func(ctx context.Context, in any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		out, err := handler(ctx, in)
		journal.line(info.FullMethod, int(status.Code(err)))
		return out, err
	}
	stream := func(service any, s grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		err := handler(service, s)
		journal.line(info.FullMethod, int(status.Code(err)))
		return err
	}
	options := []grpc.ServerOption{grpc.UnaryInterceptor(unary), grpc.StreamInterceptor(stream)}
	if encrypted {
		options = append(options, grpc.Creds(credentials.NewTLS(own())))
	}
	server := grpc.NewServer(options...)
	pb.RegisterTestServiceServer(server, service{})
	check(server.Serve(listener))
}

func askGRPC(port, workers, times string) {
	transport := insecure.NewCredentials()
	if encrypted {
		transport = credentials.NewTLS(anybody())
	}
	connection, err := grpc.NewClient("127.0.0.1:"+port, grpc.WithTransportCredentials(transport))
	check(err)
	client := pb.NewTestServiceClient(connection)
	expect := func(err error, code codes.Code) {
		if status.Code(err) != code {
			panic(err)
		}
	}
	rounds(workers, times, func(_, _ int) {
		ctx := context.Background()
		_, err := client.EmptyCall(ctx, &pb.Empty{})
		expect(err, codes.OK)
		asked := &pb.EchoStatus{Code: int32(codes.NotFound)}
		_, err = client.UnaryCall(ctx, &pb.SimpleRequest{ResponseStatus: asked})
		expect(err, codes.NotFound)
		sizes := []*pb.ResponseParameters{{Size: 10}, {Size: 200}, {Size: 30}}
		stream, err := client.StreamingOutputCall(ctx, &pb.StreamingOutputCallRequest{ResponseParameters: sizes})
		expect(err, codes.OK)
		for err == nil {
			_, err = stream.Recv()
		}
		if err != io.EOF {
			panic(err)
		}
		_, err = client.UnimplementedCall(ctx, &pb.Empty{})
		expect(err, codes.Unimplemented)
	})
	check(connection.Close())
}

func main() {
	switch os.Args[1] + " " + os.Args[2] {
	case "http server":
		serveHTTP(os.Args[3])
	case "http client":
		askHTTP(os.Args[3], os.Args[4], os.Args[5])
	case "grpc server":
		serveGRPC(os.Args[3])
	case "grpc client":
		askGRPC(os.Args[3], os.Args[4], os.Args[5])
	default:
		panic(os.Args)
	}
}
