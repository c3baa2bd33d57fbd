// Command reeve-auditor is described in docs/architecture.md.
package main

func main() {}
