// Command reeve-authority is described in docs/architecture.md.
package main

func main() {}
