// Cyclonus' `generate` command (pkg/cli/generate.go), with what that has switched off: one exec for all probes of a pod
// in the place of one for each. Says the result of each case as a line of JSON.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/mattfenwick/cyclonus/pkg/cli"
	"github.com/mattfenwick/cyclonus/pkg/connectivity"
	"github.com/mattfenwick/cyclonus/pkg/connectivity/probe"
	"github.com/mattfenwick/cyclonus/pkg/generator"
	"github.com/mattfenwick/cyclonus/pkg/kube"
	"github.com/mattfenwick/cyclonus/pkg/utils"
	v1 "k8s.io/api/core/v1"
	client "k8s.io/client-go/kubernetes"
)

// Of a probe that ended otherwise than Cyclonus' own model of the policies says.
type difference struct {
	Step int
	From string
	To   string
	// PROTOCOL/PORT
	What   string
	Wanted probe.Connectivity
	Found  probe.Connectivity
}

type line struct {
	Case        int
	Of          int
	Description string
	Tags        []string
	Probes      int
	// Tables that a step was probed for, beyond one.
	Repeated    int
	Differences []difference
	Error       string `json:",omitempty"`
}

func main() {
	destination := flag.String("destination", generator.ProbeModeServiceName, "what probes are sent to: "+strings.Join(generator.AllProbeModes, ", "))
	include := flag.String("include", "", "tags, by comma; empty for all")
	exclude := flag.String("exclude", strings.Join(cli.DefaultExcludeTags, ","), "tags, by comma")
	match := flag.String("match", "", "only cases whose description contains it")
	withProtocols := flag.String("protocols", "TCP,UDP,SCTP", "that pods serve, by comma")
	podSeconds := flag.Int("pod-seconds", 900, "for all pods to run")
	settleSeconds := flag.Int("settle-seconds", 5, "between a change and the probes")
	flag.Parse()

	mode, err := generator.ParseProbeMode(*destination)
	utils.DoOrDie(err)
	included, excluded := tags(*include), tags(*exclude)
	utils.DoOrDie(generator.ValidateTags(append(append([]string{}, included...), excluded...)))

	kubernetes, err := kube.NewKubernetesForContext("")
	utils.DoOrDie(err)
	// Five calls a second by default, and each case makes some fifty.
	kubernetes.RestConfig.QPS = -1
	kubernetes.ClientSet, err = client.NewForConfig(kubernetes.RestConfig)
	utils.DoOrDie(err)
	namespaces := []string{"x", "y", "z"}
	var protocols []v1.Protocol
	for _, one := range tags(*withProtocols) {
		protocols = append(protocols, v1.Protocol(one))
	}
	resources, err := probe.NewDefaultResources(kubernetes, namespaces, []string{"a", "b", "c"}, []int{80, 81}, protocols, nil, *podSeconds, true, "")
	utils.DoOrDie(err)
	interpreter := connectivity.NewInterpreter(kubernetes, resources, &connectivity.InterpreterConfig{
		ResetClusterBeforeTestCase:       true,
		KubeProbeRetries:                 1,
		PerturbationWaitSeconds:          *settleSeconds,
		VerifyClusterStateBeforeTestCase: true,
		BatchJobs:                        true,
		// It repeats no probes for their sake; they are told all the same.
		IgnoreLoopback: true,
	})
	blocked, err := resources.GetPod("z", "c")
	utils.DoOrDie(err)

	var chosen []*generator.TestCase
	for _, one := range generator.NewTestCaseGenerator(true, blocked.IP, namespaces, included, excluded).GenerateTestCases() {
		if strings.Contains(one.Description, *match) {
			chosen = append(chosen, one)
		}
	}
	out := json.NewEncoder(os.Stdout)
	for at, one := range chosen {
		for _, step := range one.Steps {
			step.Probe.Mode = mode
			if losesService(one) {
				step.Probe.Mode = generator.ProbeModePodIP
			}
		}
		result := interpreter.ExecuteTestCase(one)
		utils.DoOrDie(out.Encode(told(at+1, len(chosen), result)))
	}
	for _, namespace := range namespaces {
		utils.DoOrDie(kubernetes.DeleteNamespace(namespace))
	}
}

// Cyclonus does not learn the address of a Service whose pod a case makes, and forgets it with the pod's labels
// (pkg/connectivity/testcasestate.go, CreatePod; pkg/connectivity/probe/pod.go, SetLabels): each pod would connect to itself.
func losesService(one *generator.TestCase) bool {
	for _, step := range one.Steps {
		for _, action := range step.Actions {
			if action.CreatePod != nil || action.SetPodLabels != nil {
				return true
			}
		}
	}
	return false
}

func tags(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

func told(at int, of int, result *connectivity.Result) line {
	one := line{Case: at, Of: of, Description: result.TestCase.Description, Tags: result.TestCase.Tags.Keys(), Differences: []difference{}}
	if result.Err != nil {
		one.Error = fmt.Sprintf("%v", result.Err)
	}
	for at, step := range result.Steps {
		one.Repeated += len(step.KubeProbes) - 1
		table := step.LastComparison()
		for _, key := range table.Wrapped.Keys() {
			item := table.Get(key.From, key.To)
			for what, simulated := range item.Simulated.JobResults {
				one.Probes += 1
				found := item.Kube.JobResults[what].Combined
				if found != simulated.Combined {
					one.Differences = append(one.Differences, difference{at + 1, key.From, key.To, what, simulated.Combined, found})
				}
			}
		}
	}
	return one
}
