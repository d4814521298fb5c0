// Answers as the plan of tests/src/plan.rs wants it, with net/http, and logs it.
//
// server LOG [FOLDER]: with FOLDER over crypto/tls, by the cert.pem and key.pem in it.
package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

var logged *os.File

func answer(w http.ResponseWriter, r *http.Request) {
	begin := time.Now()
	received, _ := io.Copy(io.Discard, r.Body)
	kind, size, sized := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	status, found := map[string]int{"nothing": 204, "same": 304, "missing": 404, "broken": 500}[kind]
	if !found {
		status = 200
	}
	content := []byte("hello")
	if sized {
		count, _ := strconv.Atoi(size)
		content = bytes.Repeat([]byte{'x'}, count)
	} else if kind == "empty" || kind == "nothing" || kind == "same" {
		content = nil
	}
	wait, _ := strconv.Atoi(r.URL.Query().Get("wait"))
	time.Sleep(time.Duration(wait) * time.Millisecond)
	if kind == "close" {
		w.Header().Set("Connection", "close")
	}
	if kind != "chunked" && status != 204 && status != 304 {
		w.Header().Set("Content-Length", strconv.Itoa(len(content)))
	}
	w.WriteHeader(status)
	if r.Method == "HEAD" {
		content = nil
	}
	for at := 0; at < len(content); at += 4096 {
		w.Write(content[at:min(at+4096, len(content))])
		if kind == "chunked" {
			w.(http.Flusher).Flush()
		}
	}
	fmt.Fprintf(logged, `{"method":"%s","target":"%s","status":%d,"request":%d,"response":%d,"begin":%d,"ns":%d}`+"\n",
		r.Method, r.URL.RequestURI(), status, received, len(content), begin.UnixNano(), time.Since(begin).Nanoseconds())
}

func min(a, b int) int {
	if a < b {
		return a
	}
	return b
}

func main() {
	var err error
	if logged, err = os.OpenFile(os.Args[1], os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644); err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	// HTTP/1 only: no other protocol is offered in the handshake.
	server := &http.Server{
		Handler:      http.HandlerFunc(answer),
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
	}
	if len(os.Args) > 2 {
		log.Fatal(server.ServeTLS(listener, os.Args[2]+"/cert.pem", os.Args[2]+"/key.pem"))
	}
	log.Fatal(server.Serve(listener))
}
