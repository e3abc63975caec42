import CLinuxGuest

/// An order on its way over the channel. There is one at a time, whoever it is for.
struct OrderAssembly {
  /// What the host takes of a command's output, from the start on.
  struct Credit {
    var output = 0
    var error = 0
  }

  enum Progress {
    case incomplete
    /// The order can be carried out.
    case complete
    /// It is longer than any that a host sends.
    case nonsense
  }

  private var session = 0
  private var count = 0
  private var isTooLong = false
  private var size: Int?
  private(set) var credit = Credit()

  /// Takes a frame for a command that has not begun. What belongs to one that is gone has no effect.
  mutating func take(_ frame: Channel.Frame, _ channel: inout Channel) -> Progress {
    if frame.kind == Channel.Kind.order {
      // Of one order, the beginning of another is the end.
      if frame.session != session { self = OrderAssembly() }
      session = frame.session
      channel.sendCredit(Channel.Stream.order, of: frame.session, frame.count)
      guard count + frame.count < Int(ORDER_CAPACITY) else {
        isTooLong = true
        return .nonsense
      }
      for index in 0..<frame.count { orderBuffer()[count + index] = frame.contents[index] }
      count += frame.count
      return .incomplete
    }
    guard frame.session == session, count > 0 || isTooLong else { return .incomplete }
    switch (frame.kind, frame.stream) {
    case (Channel.Kind.credit, Channel.Stream.output): credit.output += frame.number(at: 0)
    case (Channel.Kind.credit, Channel.Stream.error): credit.error += frame.number(at: 0)
    case (Channel.Kind.size, _): size = frame.number(at: 0)
    case (Channel.Kind.start, _): return .complete
    default: break
    }
    return .incomplete
  }

  /// The complete order, if it makes sense; the next one can come.
  mutating func order() -> Order? {
    defer { self = OrderAssembly() }
    guard !isTooLong, var order = Order(count: count) else { return nil }
    if let size {
      order.size.columns = UInt16(truncatingIfNeeded: size)
      order.size.rows = UInt16(truncatingIfNeeded: size >> 16)
    }
    return order
  }
}
