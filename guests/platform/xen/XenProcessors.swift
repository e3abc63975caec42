// Other processors by VCPUOP_initialise: their whole first state is in one structure, so there is no real mode to come
// from and no trampoline.

import CXen

extension Platform: ProcessorPlatform {
  /// As many as the hypervisor knows numbers of.
  static var processorCount: UInt64 {
    var count: UInt64 = 0
    while count < xenProcessorLimit, operate(xenProcessorIsUp, count, 0) >> 63 == 0 { count &+= 1 }
    return count
  }

  static func startOtherProcessors(_ function: @escaping @convention(c) (UInt32) -> Void) {
    let context = xen_processor_context_address()
    let count = processorCount
    var number: UInt64 = 1
    while number < count {
      for offset in stride(from: 0, to: UInt64(XEN_CONTEXT_SIZE), by: 8) { xen_store64(context + offset, 0) }
      func set(_ offset: Int32, _ value: UInt64) { xen_store64(context + UInt64(offset), value) }
      set(XEN_CONTEXT_FLAGS, 4)  // VGCF_in_kernel
      set(XEN_CONTEXT_RBX, xen_function_address(function))
      set(XEN_CONTEXT_RDI, number)
      set(XEN_CONTEXT_RIP, xen_processor_entry_address())
      set(XEN_CONTEXT_CS, xenCodeSelector)
      set(XEN_CONTEXT_RFLAGS, 0x202)
      set(XEN_CONTEXT_RSP, xen_processor_stack_end(number))
      set(XEN_CONTEXT_SS, xenDataSelector)
      set(XEN_CONTEXT_KERNEL_SS, xenDataSelector)
      set(XEN_CONTEXT_KERNEL_SP, xen_processor_stack_end(number))
      // The tables that the domain builder made.
      set(XEN_CONTEXT_ROOT, machineFrame(xen_start(UInt64(XEN_START_PAGE_TABLES))) << 12)
      _ = operate(xenProcessorInitialise, number, context)
      _ = operate(xenProcessorUp, number, 0)
      number &+= 1
    }
  }

  static func startOtherProcessorsAgain() {
    for number in 1..<processorCount { _ = operate(xenProcessorUp, number, 0) }
  }

  private static func operate(_ operation: UInt64, _ number: UInt64, _ argument: UInt64) -> UInt64 {
    xen_hypercall(xenProcessorOperation, operation, number, argument, 0)
  }

  static func pause() { xen_pause() }

  static var timestamp: UInt64 { xen_timestamp() }
}
