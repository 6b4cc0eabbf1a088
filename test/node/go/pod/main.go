// The one program of the tests' container image: the pause container, a server that says whom it sees, and a client.
package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	command := "pause"
	if len(os.Args) > 1 {
		command = os.Args[1]
	}
	var err error
	switch {
	case command == "pause":
		pause()
	case command == "serve":
		err = serve()
	case command == "ask" && len(os.Args) == 3:
		err = ask(os.Args[2])
	default:
		err = fmt.Errorf("usage: pod [pause | serve | ask ADDRESS:PORT | ask http[s]://…]")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Waits for the signal to end, and for children that others left behind.
func pause() {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for one := range signals {
		if one != syscall.SIGCHLD {
			return
		}
		for {
			if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 || err != nil {
				break
			}
		}
	}
}

// Port 80 answers every connection with the address it comes from. Port 8080 does so by HTTP, and has /healthz for
// probes, which fails from the first GET of /sick on.
func serve() error {
	listener, err := net.Listen("tcp", ":80")
	if err != nil {
		return err
	}
	go func() {
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
		<-signals
		os.Exit(0)
	}()
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer connection.Close()
				fmt.Fprintln(connection, hostOf(connection.RemoteAddr().String()))
			}()
		}
	}()
	var sick atomic.Bool
	http.HandleFunc("/", func(answer http.ResponseWriter, request *http.Request) {
		fmt.Fprintln(answer, hostOf(request.RemoteAddr))
	})
	http.HandleFunc("/sick", func(http.ResponseWriter, *http.Request) { sick.Store(true) })
	http.HandleFunc("/healthz", func(answer http.ResponseWriter, request *http.Request) {
		// Who probes is part of the evidence: the container's log has it.
		fmt.Println("probed by", hostOf(request.RemoteAddr))
		if sick.Load() {
			answer.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	return http.ListenAndServe(":8080", nil)
}

func ask(target string) error {
	if strings.HasPrefix(target, "http") {
		// Who answers is not the question: it is whom the server saw.
		anybody := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
		client := http.Client{Timeout: 20 * time.Second, Transport: anybody}
		answer, err := client.Get(target)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		_, err = io.Copy(os.Stdout, answer.Body)
		return err
	}
	connection, err := net.DialTimeout("tcp", target, 20*time.Second)
	if err != nil {
		return err
	}
	defer connection.Close()
	_, err = io.Copy(os.Stdout, connection)
	return err
}

func hostOf(address string) string {
	host, _, _ := net.SplitHostPort(address)
	// A socket for both families says IPv4 addresses in IPv6's form.
	return strings.TrimPrefix(host, "::ffff:")
}
