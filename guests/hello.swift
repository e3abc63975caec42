// The smallest whole guest: it speaks, repeats what it was told and ends with 0. The same source makes `hello`
// (64 bits) and `hello-protected` (32 bits, no paging).

@main
enum Hello {
  static func main() {
    #if arch(x86_64)
    Console.print("Hello from 64-bit long mode.")
    #else
    Console.print("Hello from 32-bit protected mode.")
    #endif
    if !Arguments.isEmpty {
      Console.write("Command line: ")
      Console.write(bytes: Platform.commandLine)
      Console.print()
    }
    Platform.exit(0)
  }
}
