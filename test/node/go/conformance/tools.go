//go:build tools

// Left out of what is compiled: the test in this folder is, and programs cannot be imported.
package conformance

import (
	_ "k8s.io/kubernetes/cmd/kube-controller-manager"
	_ "k8s.io/kubernetes/cmd/kube-scheduler"
	_ "k8s.io/kubernetes/test/images/agnhost"
)
