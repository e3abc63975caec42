import CPlatform

extension Platform {
  /// One line about a trap, without addresses that change from build to build.
  static func report(_ frame: UnsafePointer<TrapFrame>) {
    let frame = frame.pointee
    Console.write("unexpected trap in \(frame.cs & 3 == 0 ? "kernel" : "user" as StaticString) mode: vector ")
    Console.write("\(frame.vector), error code \(hexadecimal: frame.errorCode), RIP \(hexadecimal: frame.rip)")
    if frame.vector == trapVectorPageFault { Console.write(", address \(hexadecimal: faultAddress)") }
    Console.print()
  }

  static func report(_ frame: UnsafeMutablePointer<TrapFrame>) { report(UnsafePointer(frame)) }
}
