// Sends the plan on standard input with net/http's client; one JSON line each.
//
// client URL
package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"time"
)

func main() {
	// With a configuration of its own it speaks HTTP/1.1.
	anyone := &tls.Config{InsecureSkipVerify: true}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: anyone}}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var method, target, mode string
		var size int
		if _, err := fmt.Sscan(lines.Text(), &method, &target, &size, &mode); err != nil {
			log.Fatal(err)
		}
		var body io.Reader
		if size > 0 {
			body = bytes.NewReader(bytes.Repeat([]byte{'x'}, size))
		}
		if mode == "chunked" {
			// Of a reader it does not know, the client does not know the length.
			body = io.MultiReader(body)
		}
		request, err := http.NewRequest(method, os.Args[1]+target, body)
		if err != nil {
			log.Fatal(err)
		}
		request.Close = mode == "close"
		begin := time.Now()
		response, err := client.Do(request)
		if err != nil {
			log.Fatal(err)
		}
		received, err := io.Copy(io.Discard, response.Body)
		if err != nil {
			log.Fatal(err)
		}
		response.Body.Close()
		ns := time.Since(begin).Nanoseconds()
		fmt.Printf(`{"method":"%s","target":"%s","status":%d,"request":%d,"response":%d,"begin":%d,"ns":%d}`+"\n",
			method, target, response.StatusCode, size, received, begin.UnixNano(), ns)
	}
}
