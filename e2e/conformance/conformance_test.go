// Package conformance runs Gateway API's own conformance suite. What is asked of it comes by its command-line flags.
package conformance

import (
	"testing"

	"sigs.k8s.io/gateway-api/conformance"
)

func TestConformance(t *testing.T) {
	conformance.RunConformance(t)
}
