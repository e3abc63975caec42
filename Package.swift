// swift-tools-version: 6.2
import PackageDescription

// One target a concern; the order below is the dependency order, lowest first, and has no circle. The techniques know
// `VMM`; `VMM` knows no technique; devices know neither addresses nor techniques.

let strict: [SwiftSetting] = [
  .swiftLanguageMode(.v6),
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("MemberImportVisibility"),
  .treatAllWarnings(as: .error),
]

let argumentParser = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")
let system = Target.Dependency.product(name: "SystemPackage", package: "swift-system")

let package = Package(
  name: "trivisor",
  products: [
    .executable(name: "trivisor", targets: ["trivisor"]),
    .library(name: "TrivisorPlatform", targets: ["Platform", "HardwareTechnique", "VMM"]),
    .executable(name: "trivisor-conformance", targets: ["ConformanceRunner"]),
    .executable(name: "trivisor-differential", targets: ["DifferentialRunner"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/apple/swift-system", from: "1.8.1"),
  ],
  targets: [
    .target(name: "CStart"),
    .target(name: "ProcessStart", dependencies: ["CStart"], swiftSettings: strict),
    .systemLibrary(name: "CKVM"),
    .systemLibrary(name: "CZydis"),
    .target(name: "X86", swiftSettings: strict),
    .target(name: "InstructionSet", swiftSettings: strict),
    .systemLibrary(name: "CLinux"),
    .target(name: "VMM", dependencies: ["CLinux", "X86", system], swiftSettings: strict),
    .systemLibrary(name: "CCompression"),
    .target(name: "Boot", dependencies: ["CCompression", "VMM", system], swiftSettings: strict),
    .target(name: "FileServer", dependencies: ["CLinux", "VMM", system], swiftSettings: strict),
    .target(name: "Devices", dependencies: ["CLinux", "FileServer", "VMM", system], swiftSettings: strict),
    .target(name: "KernelModules", dependencies: ["Boot", system], swiftSettings: strict),
    .target(name: "CommandChannel", dependencies: ["VMM"], swiftSettings: strict),
    .target(
      name: "HardwareTechnique", dependencies: ["CKVM", "CLinux", "Devices", "VMM", system], swiftSettings: strict),
    .target(name: "CWorldSwitch"),
    .target(
      name: "RewritingTechnique",
      dependencies: ["CLinux", "CWorldSwitch", "Devices", "InstructionSet", "VMM", "X86", system],
      swiftSettings: strict),
    .systemLibrary(name: "CSharedWords"),
    .target(
      name: "XenDomain", dependencies: ["Boot", "CSharedWords", "VMM", "X86"], swiftSettings: strict),
    .target(name: "CStub"),
    .target(name: "Sandbox", dependencies: ["CLinux", "CStub", "VMM", "X86", system], swiftSettings: strict),
    .target(
      name: "ParavirtTechnique", dependencies: ["Sandbox", "VMM", "XenDomain", system], swiftSettings: strict),
    .target(name: "CEmbeddedGuests", exclude: ["images"], cSettings: [.headerSearchPath("images")]),
    .target(name: "EmbeddedGuests", dependencies: ["CEmbeddedGuests"], swiftSettings: strict),
    .target(
      name: "Platform", dependencies: ["Boot", "CLinux", "CommandChannel", "Devices", "FileServer", "VMM", system],
      swiftSettings: strict),
    .target(name: "GuestProcess", dependencies: ["CLinux", "VMM", system], swiftSettings: strict),
    .target(name: "TestRunner", dependencies: ["GuestProcess", system], swiftSettings: strict),
    .target(name: "CChartLibrary", exclude: ["library"], cSettings: [.headerSearchPath("library")]),
    .target(
      name: "Comparison", dependencies: ["CChartLibrary", "GuestProcess", "VMM"], swiftSettings: strict),
    .target(name: "Inspection", dependencies: ["InstructionSet"], swiftSettings: strict),
    .executableTarget(
      name: "trivisor",
      dependencies: [
        "Boot", "CLinux", "CommandChannel", "Comparison", "Devices", "EmbeddedGuests", "FileServer", "GuestProcess",
        "HardwareTechnique", "Inspection", "InstructionSet", "KernelModules", "ParavirtTechnique", "Platform",
        "ProcessStart",
        "RewritingTechnique", "TestRunner", "VMM", argumentParser, system,
      ],
      swiftSettings: strict),
    .target(name: "CAllocationCounter", path: "Tests/CAllocationCounter"),
    .target(name: "SpoiledStates", dependencies: ["VMM"], path: "Tests/SpoiledStates", swiftSettings: strict),
    .testTarget(name: "X86Tests", dependencies: ["X86"], swiftSettings: strict),
    .testTarget(name: "EmbeddedGuestsTests", dependencies: ["EmbeddedGuests"], swiftSettings: strict),
    .testTarget(name: "InstructionSetTests", dependencies: ["CZydis", "InstructionSet"], swiftSettings: strict),
    .testTarget(name: "VMMTests", dependencies: ["VMM"], swiftSettings: strict),
    .testTarget(name: "SandboxTests", dependencies: ["CStub", "Sandbox", "VMM", "X86"], swiftSettings: strict),
    .testTarget(
      name: "ParavirtTechniqueTests",
      dependencies: [
        "Boot", "CAllocationCounter", "Devices", "EmbeddedGuests", "ParavirtTechnique", "Platform", "Sandbox",
        "SpoiledStates", "VMM", "XenDomain", system,
      ],
      swiftSettings: strict),
    .testTarget(name: "BootTests", dependencies: ["Boot", "CCompression", "VMM", system], swiftSettings: strict),
    .testTarget(name: "FileServerTests", dependencies: ["CLinux", "FileServer", "VMM", system], swiftSettings: strict),
    .testTarget(name: "KernelModulesTests", dependencies: ["Boot", "KernelModules", system], swiftSettings: strict),
    .testTarget(
      name: "DevicesTests", dependencies: ["CLinux", "Devices", "FileServer", "SpoiledStates", "VMM", system],
      swiftSettings: strict),
    .testTarget(
      name: "CommandChannelTests", dependencies: ["CommandChannel", "Devices", "VMM"], swiftSettings: strict),
    .testTarget(
      name: "HardwareTechniqueTests", dependencies: ["CAllocationCounter", "HardwareTechnique", "VMM"],
      swiftSettings: strict),
    .target(name: "CChannelGuest", path: "Tests/CChannelGuest"),
    .testTarget(
      name: "PlatformTests",
      dependencies: [
        "Boot", "CChannelGuest", "CommandChannel", "Devices", "EmbeddedGuests", "HardwareTechnique",
        "ParavirtTechnique", "Platform", "RewritingTechnique", "VMM",
      ],
      swiftSettings: strict),
    .testTarget(name: "ComparisonTests", dependencies: ["Comparison", "GuestProcess"], swiftSettings: strict),
    .testTarget(
      name: "TestRunnerTests", dependencies: ["GuestProcess", "TestRunner", system], swiftSettings: strict),
    .testTarget(
      name: "InspectionTests", dependencies: ["Boot", "EmbeddedGuests", "Inspection", "InstructionSet"],
      swiftSettings: strict),
    .target(name: "CPseudoTerminal", path: "Tests/CPseudoTerminal"),
    .testTarget(
      name: "TrivisorTests", dependencies: ["CPseudoTerminal", "EmbeddedGuests", "trivisor", system],
      swiftSettings: strict),
    .target(name: "ConformanceGuests", path: "Tests/ConformanceGuests"),
    .target(
      name: "Conformance", dependencies: ["Boot", "ConformanceGuests", "VMM"], path: "Tests/Conformance",
      swiftSettings: strict),
    .executableTarget(
      name: "ConformanceRunner",
      dependencies: [
        "Conformance", "HardwareTechnique", "ParavirtTechnique", "ProcessStart", "RewritingTechnique", "VMM",
      ],
      path: "Tests/ConformanceRunner", swiftSettings: strict),
    .target(name: "CNativeRun", path: "Tests/CNativeRun"),
    .target(
      name: "Differential", dependencies: ["CNativeRun", "InstructionSet", "RewritingTechnique", "VMM"],
      path: "Tests/Differential", swiftSettings: strict),
    .executableTarget(
      name: "DifferentialRunner", dependencies: ["Differential", "ProcessStart"], path: "Tests/DifferentialRunner",
      swiftSettings: strict),
    .executableTarget(
      name: "SignalRunner", dependencies: ["RewritingTechnique", "VMM"], path: "Tests/SignalRunner",
      swiftSettings: strict),
    .target(
      name: "Steady", dependencies: ["CAllocationCounter", "RewritingTechnique", "VMM", "X86"], path: "Tests/Steady",
      swiftSettings: strict),
    .executableTarget(
      name: "SteadyRunner", dependencies: ["ProcessStart", "Steady"], path: "Tests/SteadyRunner", swiftSettings: strict),
    .target(name: "CTracedProcess", path: "Tests/CTracedProcess"),
    .testTarget(
      name: "RewritingTechniqueTests",
      dependencies: [
        "CLinux", "CTracedProcess", "CWorldSwitch", "Conformance", "Differential", "DifferentialRunner",
        "InstructionSet", "RewritingTechnique", "SignalRunner", "Steady", "VMM", "X86",
      ],
      swiftSettings: strict),
    .testTarget(
      name: "ConformanceTests", dependencies: ["Conformance", "HardwareTechnique", "ParavirtTechnique", "VMM"],
      swiftSettings: strict),
  ]
)
