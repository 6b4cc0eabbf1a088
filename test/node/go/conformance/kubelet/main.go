// kubelet's part in `kubectl exec`, with the project's own code for the streams: for pods that are network namespaces of the
// node that this runs on. The file NAMESPACE_POD below -pods names a pod's; programs lie below -root.
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"io"
	"log"
	"math/big"
	"net/http"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/utils/exec"
)

var (
	pods = flag.String("pods", "", "folder")
	root = flag.String("root", "", "folder")
)

// The API server takes any certificate of a kubelet, unless it is given an authority for them.
func certificate() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

type executor struct{ netns string }

func (e executor) ExecInContainer(ctx context.Context, name string, uid string, container string, cmd []string, in io.Reader, out, errOut io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize, timeout time.Duration) error {
	args := append([]string{"netns", "exec", e.netns, filepath.Join(*root, cmd[0])}, cmd[1:]...)
	command := osexec.CommandContext(ctx, "ip", args...)
	command.Stdin, command.Stdout = in, out
	if errOut != nil {
		command.Stderr = errOut
	}
	err := command.Run()
	if ended, ok := err.(*osexec.ExitError); ok {
		return &exec.ExitErrorWrapper{ExitError: ended}
	}
	return err
}

// /exec/NAMESPACE/POD/CONTAINER?command=…
func serve(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(strings.TrimPrefix(r.URL.Path, "/exec/"), "/")
	if len(parts) != 3 {
		http.NotFound(w, r)
		return
	}
	netns, err := os.ReadFile(filepath.Join(*pods, parts[0]+"_"+parts[1]))
	if err != nil {
		http.Error(w, fmt.Sprint(err), http.StatusNotFound)
		return
	}
	options, err := remotecommand.NewOptions(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	to := executor{strings.TrimSpace(string(netns))}
	remotecommand.ServeExec(w, r, to, parts[1], "", parts[2], r.URL.Query()["command"], options, time.Hour, 30*time.Second, remotecommand.SupportedStreamingProtocols)
}

func main() {
	flag.Parse()
	own, err := certificate()
	if err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("/exec/", serve)
	server := &http.Server{Addr: ":10250", TLSConfig: &tls.Config{
		Certificates: []tls.Certificate{own},
		// SPDY takes a connection over, which HTTP/2 cannot give.
		NextProtos: []string{"http/1.1"},
	}}
	log.Fatal(server.ListenAndServeTLS("", ""))
}
