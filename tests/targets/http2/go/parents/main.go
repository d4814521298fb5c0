// Services over TLS: `back PROTOCOL` answers each request after a moment that depends on its path; `serve PROTOCOL PORT` asks it
// twice for each request, with the request's number (/turn/7 in turn, /once/7 both at once); `ask PROTOCOL PORT CLIENTS EACH HOW`
// asks that. A protocol is http1, http2, h2c or grpc; the first two are
// encrypted. The first two print their port and go on until their input ends.
package main

import (
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
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"
)

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func certificate() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	template := x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	check(err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func protocols(name string) *http.Protocols {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(name == "http1")
	protocols.SetHTTP2(name == "http2")
	protocols.SetUnencryptedHTTP2(name == "h2c")
	return protocols
}

// Has each request answered when `handle` has returned, which is given its path.
func serve(protocol string, handle func(path string)) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	if protocol == "grpc" {
		server := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
			check(stream.RecvMsg(new(emptypb.Empty)))
			path, _ := grpc.MethodFromServerStream(stream)
			handle(path)
			return stream.SendMsg(new(emptypb.Empty))
		}))
		go server.Serve(listener)
		io.Copy(io.Discard, os.Stdin)
		return
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handle(r.URL.Path)
		io.WriteString(w, "done")
	})
	server := &http.Server{Handler: handler, Protocols: protocols(protocol)}
	server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{certificate()}}
	if protocol == "h2c" {
		go server.Serve(listener)
	} else {
		go server.ServeTLS(listener, "", "")
	}
	io.Copy(io.Discard, os.Stdin)
}

type asker struct {
	client  http.Client
	base    string
	channel *grpc.ClientConn
}

func newAsker(protocol, port string) *asker {
	if protocol == "grpc" {
		channel, err := grpc.NewClient("127.0.0.1:"+port, grpc.WithTransportCredentials(insecure.NewCredentials()))
		check(err)
		return &asker{channel: channel}
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 64, Protocols: protocols(protocol)}
	transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	scheme := "https"
	if protocol == "h2c" {
		scheme = "http"
	}
	return &asker{client: http.Client{Transport: transport}, base: scheme + "://127.0.0.1:" + port}
}

func (a *asker) ask(name, number string) {
	if a.channel != nil {
		check(a.channel.Invoke(context.Background(), "/"+name+"/"+number, new(emptypb.Empty), new(emptypb.Empty)))
		return
	}
	answer, err := a.client.Get(a.base + "/" + name + "/" + number)
	check(err)
	_, err = io.Copy(io.Discard, answer.Body)
	check(err)
	answer.Body.Close()
	if answer.StatusCode != 200 {
		panic(answer.Status)
	}
}

func all(tasks ...func()) {
	var group sync.WaitGroup
	for _, task := range tasks {
		group.Add(1)
		go func() {
			defer group.Done()
			task()
		}()
	}
	group.Wait()
}

func main() {
	protocol := os.Args[2]
	switch os.Args[1] {
	case "back":
		serve(protocol, func(path string) {
			time.Sleep(time.Duration(path[len(path)-1]%4) * 500 * time.Microsecond)
		})
	case "serve":
		back := newAsker(protocol, os.Args[3])
		serve(protocol, func(path string) {
			parts := strings.Split(path, "/")
			first := func() { back.ask("first", parts[2]) }
			second := func() { back.ask("second", parts[2]) }
			if parts[1] == "turn" {
				first()
				second()
			} else {
				all(first, second)
			}
		})
	case "ask":
		clients, err := strconv.Atoi(os.Args[4])
		check(err)
		each, err := strconv.Atoi(os.Args[5])
		check(err)
		shared := newAsker(protocol, os.Args[3])
		var group sync.WaitGroup
		for client := 0; client < clients; client++ {
			group.Add(1)
			go func() {
				defer group.Done()
				for order := client * each; order < (client+1)*each; order++ {
					shared.ask(os.Args[6], strconv.Itoa(order))
				}
			}()
		}
		group.Wait()
	}
}
