// A service that asks another one twice for each request, with the request's number. What is asked for says how:
// /turn/7 in turn, /once/7 both at once, /nested/7 by goroutines of goroutines, /late/7 the second time when it has answered long since,
// /early/7 both times when it has answered and its handler goes on, /shared/7 at once over one connection that has a goroutine to
// write and one to read, which the first request has started, /pool/7 by workers that the first request has started,
// /spread/7 by goroutines that such workers start, /elastic/7 by workers
// that are started with a first order where none is idle. Of the latter two the first requests take longest. Argument: the other service's port.
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

var client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}

func ask(name, number string) {
	answer, err := client.Get("http://127.0.0.1:" + os.Args[1] + "/" + name + "/" + number)
	if err != nil {
		panic(err)
	}
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		panic(err)
	}
	answer.Body.Close()
}

// A client that writes for all on one connection.
type shared struct {
	start   sync.Once
	asked   chan question
	waiting chan question
}

type question struct {
	path string
	done chan struct{}
}

func (s *shared) ask(name, number string) {
	s.start.Do(func() {
		connection, err := net.Dial("tcp", "127.0.0.1:"+os.Args[1])
		if err != nil {
			panic(err)
		}
		go s.write(connection)
		go s.read(connection)
	})
	one := question{"/" + name + "/" + number, make(chan struct{})}
	s.asked <- one
	<-one.done
}

func (s *shared) write(connection net.Conn) {
	for one := range s.asked {
		s.waiting <- one
		if _, err := fmt.Fprintf(connection, "GET %s HTTP/1.1\r\nhost: t\r\n\r\n", one.path); err != nil {
			panic(err)
		}
	}
}

func (s *shared) read(connection net.Conn) {
	reader := bufio.NewReader(connection)
	for one := range s.waiting {
		answer, err := http.ReadResponse(reader, nil)
		if err != nil {
			panic(err)
		}
		if _, err := io.Copy(io.Discard, answer.Body); err != nil {
			panic(err)
		}
		close(one.done)
	}
}

var one = shared{asked: make(chan question), waiting: make(chan question, 1024)}

// Workers that take what anybody wants done.
type pool struct {
	start sync.Once
	tasks chan func()
}

func (p *pool) do(task func()) {
	p.start.Do(func() {
		for worker := 0; worker < 8; worker++ {
			go func() {
				for task := range p.tasks {
					task()
				}
			}()
		}
	})
	done := make(chan struct{})
	p.tasks <- func() {
		defer close(done)
		task()
	}
	<-done
}

var lazy = pool{tasks: make(chan func(), 1024)}

// Workers that come with their first task and stay for others.
type elastic struct{ tasks chan func() }

func (e *elastic) do(task func()) {
	done := make(chan struct{})
	one := func() {
		defer close(done)
		task()
	}
	select {
	case e.tasks <- one:
	default:
		go e.work(one)
	}
	<-done
}

func (e *elastic) work(task func()) {
	for {
		task()
		task = <-e.tasks
	}
}

var stretching = elastic{tasks: make(chan func())}

// How many requests were slow.
var slow atomic.Int32

func sometimes() {
	if slow.Add(1) <= 8 {
		time.Sleep(300 * time.Millisecond)
	}
}

// Runs all at once; returns when all have.
func all(tasks ...func()) {
	var group sync.WaitGroup
	for _, task := range tasks {
		task := task
		group.Add(1)
		go func() {
			defer group.Done()
			task()
		}()
	}
	group.Wait()
}

func serve(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(r.URL.Path, "/")
	first := func() { ask("first", parts[2]) }
	second := func() { ask("second", parts[2]) }
	w.Header().Set("content-length", "4")
	switch parts[1] {
	case "turn", "first", "second": // the last two from a service like this
		first()
		second()
	case "once":
		all(first, second)
	case "nested":
		all(func() { all(first, func() { all(second) }) })
	case "shared":
		all(func() { one.ask("first", parts[2]) }, func() { one.ask("second", parts[2]) })
	case "pool":
		lazy.do(first)
		sometimes()
		lazy.do(second)
	case "spread":
		lazy.do(func() { all(first, second) })
		sometimes()
		lazy.do(func() { all(func() {}) })
	case "elastic":
		stretching.do(first)
		sometimes()
		stretching.do(second)
	case "late":
		first()
		go func() {
			time.Sleep(3 * time.Millisecond)
			second()
		}()
	case "early":
		io.WriteString(w, "done")
		w.(http.Flusher).Flush()
		first()
		second()
		return
	}
	io.WriteString(w, "done")
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	go http.Serve(listener, http.HandlerFunc(serve))
	io.Copy(io.Discard, os.Stdin)
}
