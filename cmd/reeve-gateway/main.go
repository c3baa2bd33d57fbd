// Command reeve-gateway is described in docs/architecture.md.
package main

func main() {}
