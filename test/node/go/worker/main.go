// In the place of Cyclonus' worker, which starts `agnhost connect` for each probe, twice where it fails: under emulation that
// takes most of a second of a processor. This one makes the same connections by itself, all of a batch at once.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/ishidawataru/sctp"
)

// As pkg/worker/model.go has them.
type request struct {
	Key      string
	Protocol string
	Host     string
	Port     int
}

func (one *request) address() string {
	return net.JoinHostPort(one.Host, strconv.Itoa(one.Port))
}

type result struct {
	Request *request
	Output  string
	Error   string
}

// For a connection. A first packet that is lost is sent again after one second, by the kernel for TCP and below for UDP.
const (
	patience = 3 * time.Second
	again    = time.Second
)

func main() {
	jobs := flag.String("jobs", "", "a batch, in JSON")
	flag.Parse()
	var batch struct{ Requests []*request }
	if err := json.Unmarshal([]byte(*jobs), &batch); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	results := make([]*result, len(batch.Requests))
	var ended sync.WaitGroup
	for at, one := range batch.Requests {
		ended.Add(1)
		go func() {
			defer ended.Done()
			results[at] = &result{Request: one}
			if err := within(func() error { return connect(one) }); err != nil {
				results[at].Error = err.Error()
			}
		}()
	}
	ended.Wait()
	if err := json.NewEncoder(os.Stdout).Encode(results); err != nil {
		os.Exit(1)
	}
}

func within(do func() error) error {
	done := make(chan error, 1)
	go func() { done <- do() }()
	select {
	case err := <-done:
		return err
	case <-time.After(patience):
		return fmt.Errorf("TIMEOUT")
	}
}

// As agnhost's `connect` does it (test/images/agnhost/connect): a UDP and an SCTP server must answer.
func connect(one *request) error {
	switch one.Protocol {
	case "TCP":
		conn, err := net.DialTimeout("tcp", one.address(), patience)
		if err != nil {
			return err
		}
		return conn.Close()
	case "UDP":
		return askUDP(one.address())
	case "SCTP":
		return askSCTP(one.address())
	}
	return fmt.Errorf("protocol %s is not known", one.Protocol)
}

func askUDP(address string) error {
	conn, err := net.Dial("udp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	buffer := make([]byte, 1024)
	for start := time.Now(); time.Since(start) < patience; {
		if _, err = conn.Write([]byte("hostname\n")); err != nil {
			return err
		}
		if err = conn.SetDeadline(time.Now().Add(again)); err != nil {
			return err
		}
		if _, err = conn.Read(buffer); err == nil {
			return nil
		}
		if timeout, ok := err.(net.Error); !ok || !timeout.Timeout() {
			return err
		}
	}
	return err
}

func askSCTP(address string) error {
	resolved, err := sctp.ResolveSCTPAddr("sctp", address)
	if err != nil {
		return err
	}
	conn, err := sctp.DialSCTP("sctp", nil, resolved)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err = conn.Write([]byte("hostname\n")); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 1024))
	return err
}
