// What a guest of ours may ask of what is below it.
//
// A guest is a small kernel, and a kernel's dealings with the processor are few: who is told of a trap, how user code
// is entered, what a page is mapped to, when the timer ticks, how another processor starts. Those are this file. A
// kernel written against them does not care who carries them out:
//
//     hello.swift, ring3.swift, …  ──▶  Platform  ──▶  native/   privileged instructions, ports, page tables
//                                                └─▶  xen/      hypercalls
//
// The choice is made when the guest is built, by compiling one folder or the other. It is the oldest idea of
// virtualization seen from the other side: what a rewriting monitor does to an unwilling kernel at run time, a
// paravirtual kernel does to itself at design time.
//
// Each part is a protocol with static requirements only, so that the compiler checks an implementation for
// completeness, and calls cost nothing.

import CPlatform

/// The machine below; its abilities are declared here and carried out in `native/` or `xen/`.
enum Platform: ConsolePlatform {}

/// What every guest needs: to speak and to end.
protocol ConsolePlatform {
  /// Writes one byte to the console.
  static func write(_ byte: UInt8)

  /// What the user said behind `--append`, without a loader's own additions.
  static var commandLine: UnsafeBufferPointer<UInt8> { get }

  /// Ends the machine; `code` becomes the exit status.
  static func exit(_ code: UInt8) -> Never

  /// Stops this processor with interrupts off: for a single processor, a machine that does nothing for ever.
  static func halt() -> Never
}

/// Hears of every trap in kernel mode. It may change the frame; execution goes on with what the frame then says.
typealias TrapHandler = @convention(c) (UnsafeMutablePointer<TrapFrame>) -> Void

/// Traps of the kernel's own, and user mode.
protocol TrapPlatform {
  /// Without a handler a trap is printed and ends the machine with 1.
  static var trapHandler: TrapHandler? { get set }

  /// Runs user code from `frame` until it traps: an exception, a system call, the timer. All registers are in the frame
  /// before and after. Interrupts are as the frame's RFLAGS say while user code runs, and off in the kernel.
  static func enterUser(_ frame: UnsafeMutablePointer<TrapFrame>)

  /// Segment selectors for a frame that enters user mode.
  static var userCodeSelector: UInt64 { get }
  static var userDataSelector: UInt64 { get }

  /// The address whose translation failed in the last page fault.
  static var faultAddress: UInt64 { get }

  /// Makes every further trap fatal to the machine.
  static func forgetTraps()

  static func disableInterrupts()

  /// Ticks as vector `trapVectorTimer`, `frequency` times a second (20 to 10,000).
  static func startTimer(frequency: UInt32)
  static func stopTimer()

  /// Calls `function` on the stack that ends below `top`, a multiple of 16.
  static func call(onStack top: UInt64, _ function: @convention(c) () -> Void)
}

/// A page of the guest's memory, named by the address at which the kernel sees it.
struct PageFrame {
  let address: UInt64

  /// The page as the kernel reads and writes it.
  var bytes: UnsafeMutableRawPointer? { UnsafeMutableRawPointer(bitPattern: UInt(address)) }
}

/// What user mode may do with a page; the kernel may always do as much. Anything may be executed.
enum PageAccess {
  case kernelOnly, readOnly, readWrite
}

/// Page tables. The kernel is mapped in every address space; the gigabyte from `windowStart` is each one's own.
protocol PagePlatform {
  /// An address space: its root, whatever the platform calls it.
  associatedtype AddressSpace

  /// 1 GiB: the first address that `map` takes. The window is 1 GiB long.
  static var windowStart: UInt64 { get }

  /// A page of zeros; nil when there are no more (512 in all, page tables included).
  static func allocateFrame() -> PageFrame?

  static func makeAddressSpace() -> AddressSpace?
  static func activate(_ space: AddressSpace)

  /// False if there is no memory for a page table, or `address` is not a page in the window.
  static func map(_ address: UInt64, to frame: PageFrame, _ access: PageAccess, in space: AddressSpace) -> Bool
  static func unmap(_ address: UInt64, in space: AddressSpace)
}

/// More processors than the one that boots.
protocol ProcessorPlatform {
  /// How many the machine has, this one included.
  static var processorCount: UInt64 { get }

  /// Starts all others, up to 255. Each calls `function` with its number, from 1, on a stack of 4 KiB, and stops when
  /// it returns. Not all need have started when this returns.
  static func startOtherProcessors(_ function: @escaping @convention(c) (UInt32) -> Void)

  /// For processors that took no notice; the others are not disturbed.
  static func startOtherProcessorsAgain()

  /// In a loop that waits for another processor.
  static func pause()

  /// Counts cycles, for time limits.
  static var timestamp: UInt64 { get }
}

/// For the guest that looks at the machine itself.
protocol StatePlatform {
  /// Makes the processor's state recognizable and says what it is: who sees something else sees another machine.
  static func markState() -> KnownState

  /// A line for each privileged instruction that the platform does without, and how.
  static func showReplacements()
}

/// What only the benchmark asks for: operations that are nothing but their cost.
protocol BenchmarkPlatform {
  /// Whether devices have ports here.
  static var hasPorts: Bool { get }

  /// Reads a register of the first serial port that does nothing.
  static func readPort()

  /// Writes CR0, with TS as given.
  static func writeControlRegister(taskSwitched: Bool)

  /// False if the processor can't interrupt itself.
  static func prepareInterrupts() -> Bool

  /// Raises an interrupt and returns when its handler has ended it.
  static func interruptSelf()
}
