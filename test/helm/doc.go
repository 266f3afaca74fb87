// Package helm checks the Helm charts and the examples for Kubernetes: by Helm's own lint
// and templates, and by decoding all that comes of them into Kubernetes' types, strictly. It
// is a module of its own, as Helm and Kubernetes have more dependencies than all else here.
package helm
