// A service that says which pod it is, and passes the request on if it knows to whom.
//
// cluster ADDRESS [NEXT] answers any GET with $POD/$CONTAINER, a line behind those of what it asked.
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"time"
)

func main() {
	// Who is gone does not answer, and nobody says so. On a connection of its own no request is sent twice.
	client := &http.Client{
		Timeout:   2 * time.Second,
		Transport: &http.Transport{DisableKeepAlives: true},
	}
	own := fmt.Sprintf("%s/%s\n", os.Getenv("POD"), os.Getenv("CONTAINER"))
	answer := func(w http.ResponseWriter, r *http.Request) {
		if len(os.Args) > 2 {
			// A request of its own context: it inherits nothing that the caller sent.
			next, err := client.Get("http://" + os.Args[2] + r.URL.RequestURI())
			if err != nil {
				w.WriteHeader(http.StatusBadGateway)
				io.WriteString(w, own)
				return
			}
			defer next.Body.Close()
			w.WriteHeader(next.StatusCode)
			io.Copy(w, next.Body)
		}
		io.WriteString(w, own)
	}
	log.Fatal(http.ListenAndServe(os.Args[1], http.HandlerFunc(answer)))
}
