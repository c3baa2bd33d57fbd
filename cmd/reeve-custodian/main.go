// Command reeve-custodian is described in docs/architecture.md.
package main

func main() {}
