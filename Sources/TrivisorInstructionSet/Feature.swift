/// The processor feature that an encoding belongs to. Those up to `gfni` are decoded in full, and whether a guest has
/// them is its CPU model's business; what comes after is known by name only and classified as `undefined`.
public enum Feature: UInt8, Sendable, BitwiseCopyable, CaseIterable {
  case base, x87, cx8, cx16, fxsr, mmx, mmxext, sse, sse2, sse3, ssse3, sse41, sse42, sse4a
  case popcnt, lzcnt, bmi1, bmi2, movbe, adx, aes, pclmul, sha, rdrand, rdseed
  case avx, avx2, f16c, fma, vaes, vpclmul, gfni
  case xsave, xsaveopt, xsavec, xsaves, clflush, clflushopt, clwb, prefetchw
  case fsgsbase, rdtscp, rdpid, smap, pku, invpcid, monitor, monitorx, clzero, invlpgb, svm, vmx
  case cet, smx, sgx, rtm, movdir, keyLocker, threeDNow, xop, evex, other

  /// The words that the table uses, in the order of the cases.
  static let words: StaticString = """
    base x87 cx8 cx16 fxsr mmx mmxext sse sse2 sse3 ssse3 sse41 sse42 sse4a \
    popcnt lzcnt bmi1 bmi2 movbe adx aes pclmul sha rdrand rdseed \
    avx avx2 f16c fma vaes vpclmul gfni \
    xsave xsaveopt xsavec xsaves clflush clflushopt clwb prefetchw \
    fsgsbase rdtscp rdpid smap pku invpcid monitor monitorx clzero invlpgb svm vmx \
    cet smx sgx rtm movdir keylock 3dnow xop evex other
    """
}
