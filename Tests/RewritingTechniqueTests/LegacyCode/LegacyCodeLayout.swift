import TrivisorCTracedProcess

/// Where things are for both machines of the differential tests: the same linear addresses, segments and rights.
enum LegacyCodeLayout {
  /// Three pages of code that may not be written.
  static let code: UInt64 = 0x1000_0000
  static let codeSize: UInt64 = 0x3000
  static let data: UInt64 = 0x1001_0000
  static let dataSize: UInt64 = 0x2_0000
  /// One page of the data may not be written, one may not be touched.
  static let readOnly: UInt64 = data + 0x8000
  static let forbidden: UInt64 = data + 0xc000
  /// Everything from the first to the last byte.
  static let size = data + dataSize - code

  static let ranges: [ctp_range] = [
    ctp_range(base: code, size: codeSize, protection: 5),
    ctp_range(base: data, size: 0x8000, protection: 3),
    ctp_range(base: readOnly, size: 0x1000, protection: 1),
    ctp_range(base: readOnly + 0x1000, size: 0x3000, protection: 3),
    ctp_range(base: forbidden, size: 0x1000, protection: 0),
    ctp_range(base: forbidden + 0x1000, size: 0x1_3000, protection: 3),
  ]

  static let flatCode32: UInt16 = 0x23, flatData: UInt16 = 0x2b, code64: UInt16 = 0x33

  /// A segment of the local descriptor table.
  struct Segment {
    let index: UInt32
    let base: UInt64
    let limit: UInt64
    /// 0 data, 1 expand-down data, 2 code, 3 conforming code.
    var contents: UInt8 = 0
    var is32Bit = true
    var isRestricted = false
    var isPresent = true

    var selector: UInt16 { UInt16(index) << 3 | 7 }

    /// As an 8-byte descriptor.
    var descriptor: UInt64 {
      let type = UInt64(contents) << 2 | (isRestricted ? 0 : 2) | 1
      var value = limit & 0xffff | (base & 0xff_ffff) << 16 | type << 40 | (isPresent ? 0xf0 : 0x70) << 40
      value |= (limit >> 16 & 15) << 48 | (base >> 24 & 0xff) << 56
      if is32Bit { value |= 1 << 54 }
      return value
    }

    var native: ctp_segment {
      ctp_segment(
        index: index, base: UInt32(base), limit: UInt32(limit), contents: contents, is32bit: is32Bit ? 1 : 0,
        readExecuteOnly: isRestricted ? 1 : 0, inPages: 0,
        notPresent: isPresent ? 0 : 1)
    }
  }

  static let code16 = Segment(index: 0, base: code, limit: 0x2fff, contents: 2, is32Bit: false)
  static let code32 = Segment(index: 1, base: code, limit: 0x2fff, contents: 2)
  static let data16 = Segment(index: 2, base: data, limit: 0xffff, is32Bit: false)
  static let data32 = Segment(index: 3, base: data + 0x10, limit: 0x1_fe0e)
  static let expandDown32 = Segment(index: 4, base: data, limit: 0x5fff, contents: 1)
  static let expandDown16 = Segment(index: 5, base: data + 0x4000, limit: 0x3fff, contents: 1, is32Bit: false)
  static let readOnlyData = Segment(index: 6, base: data, limit: 0xffff, isRestricted: true)
  static let executeOnly = Segment(index: 7, base: data, limit: 0xffff, contents: 2, isRestricted: true)
  static let readableCode = Segment(index: 8, base: data + 0x2000, limit: 0x7fff, contents: 2)
  static let absent = Segment(index: 9, base: data, limit: 0xffff, isPresent: false)
  static let absentConforming = Segment(index: 10, base: data, limit: 0xffff, contents: 3, isPresent: false)
  static let segments = [
    code16, code32, data16, data32, expandDown32, expandDown16, readOnlyData, executeOnly, readableCode,
    absent, absentConforming,
  ]

  /// Base of a selector's segment; 0 for flat ones and null.
  static func base(_ selector: UInt16) -> UInt64 {
    segments.first { $0.selector == selector }?.base ?? 0
  }
}
