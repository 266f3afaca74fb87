//go:build !race

package controlplane

const many = 130
