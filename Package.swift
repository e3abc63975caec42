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
    .executable(name: "trivisor", targets: ["TrivisorCommand"]),
    .library(name: "Trivisor", targets: ["Trivisor"]),
    .executable(name: "trivisor-conformance", targets: ["TrivisorConformanceRunner"]),
    .executable(name: "trivisor-fuzz", targets: ["TrivisorFuzzRunner"]),
    .executable(name: "trivisor-fuzz-hypercalls", targets: ["TrivisorHypercallFuzzRunner"]),
    .executable(name: "trivisor-fuzz-devices", targets: ["TrivisorDeviceFuzzRunner"]),
    .executable(name: "trivisor-differential", targets: ["TrivisorDifferentialRunner"]),
    .executable(name: "trivisor-interleavings", targets: ["TrivisorInterleavingRunner"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/apple/swift-system", from: "1.8.1"),
  ],
  targets: [
    .target(name: "TrivisorCStart"),
    .target(name: "TrivisorProcessStart", dependencies: ["TrivisorCStart"], swiftSettings: strict),
    .systemLibrary(name: "CKVM"),
    .systemLibrary(name: "TrivisorCZydis"),
    .target(name: "TrivisorX86", swiftSettings: strict),
    .target(name: "TrivisorInstructionSet", swiftSettings: strict),
    .systemLibrary(name: "TrivisorCLinux"),
    .target(name: "TrivisorVMM", dependencies: ["TrivisorCLinux", "TrivisorX86", system], swiftSettings: strict),
    .systemLibrary(name: "TrivisorCCompression"),
    .target(
      name: "TrivisorBoot", dependencies: ["TrivisorCCompression", "TrivisorCLinux", "TrivisorVMM", system],
      swiftSettings: strict),
    .target(
      name: "TrivisorFileServer", dependencies: ["TrivisorCLinux", "TrivisorVMM", system], swiftSettings: strict),
    .target(name: "TrivisorCSockets"),
    .target(
      name: "TrivisorDevices",
      dependencies: [
        "TrivisorCLinux", "TrivisorCSockets", "TrivisorFileServer", "TrivisorVMM", "TrivisorX86", system,
      ],
      swiftSettings: strict),
    .target(
      name: "TrivisorNetworking", dependencies: ["TrivisorCLinux", "TrivisorVMM", system], swiftSettings: strict),
    .target(name: "TrivisorKernelModules", dependencies: ["TrivisorBoot", system], swiftSettings: strict),
    .target(name: "TrivisorCommandChannel", dependencies: ["TrivisorVMM"], swiftSettings: strict),
    .target(
      name: "TrivisorNamedGuests",
      dependencies: ["TrivisorCLinux", "TrivisorCommandChannel", "TrivisorDevices", "TrivisorVMM", system],
      swiftSettings: strict),
    .target(
      name: "TrivisorDebugger", dependencies: ["TrivisorCLinux", "TrivisorVMM", "TrivisorX86", system],
      swiftSettings: strict),
    .target(
      name: "TrivisorHardwareTechnique",
      dependencies: ["CKVM", "TrivisorCLinux", "TrivisorDevices", "TrivisorVMM", "TrivisorX86", system],
      swiftSettings: strict),
    .target(name: "TrivisorCWorldSwitch"),
    .target(
      name: "TrivisorTranslation",
      dependencies: [
        "TrivisorCLinux", "TrivisorCWorldSwitch", "TrivisorInstructionSet", "TrivisorVMM", "TrivisorX86", system,
      ],
      swiftSettings: strict),
    .target(
      name: "TrivisorRewritingTechnique",
      dependencies: [
        "TrivisorCWorldSwitch", "TrivisorDevices", "TrivisorInstructionSet", "TrivisorTranslation", "TrivisorVMM",
        "TrivisorX86",
      ],
      swiftSettings: strict),
    .systemLibrary(name: "TrivisorCSharedWords"),
    .target(name: "TrivisorInterpretation", dependencies: ["TrivisorInstructionSet"], swiftSettings: strict),
    .target(
      name: "TrivisorXenDomain",
      dependencies: [
        "TrivisorBoot", "TrivisorCLinux", "TrivisorCSharedWords", "TrivisorInterpretation", "TrivisorVMM",
        "TrivisorX86",
      ],
      swiftSettings: strict),
    .target(name: "TrivisorCStub"),
    .target(
      name: "TrivisorSandbox", dependencies: ["TrivisorCLinux", "TrivisorCStub", "TrivisorVMM", "TrivisorX86", system],
      swiftSettings: strict),
    .target(
      name: "TrivisorParavirtTechnique",
      dependencies: [
        "TrivisorBoot", "TrivisorCWorldSwitch", "TrivisorDevices", "TrivisorSandbox", "TrivisorTranslation",
        "TrivisorVMM", "TrivisorX86", "TrivisorXenDomain", system,
      ],
      swiftSettings: strict),
    .target(name: "TrivisorCEmbeddedGuests", exclude: ["images"], cSettings: [.headerSearchPath("images")]),
    .target(name: "TrivisorEmbeddedGuests", dependencies: ["TrivisorCEmbeddedGuests"], swiftSettings: strict),
    .target(
      name: "TrivisorPlatform",
      dependencies: [
        "TrivisorBoot", "TrivisorCLinux", "TrivisorCommandChannel", "TrivisorDebugger", "TrivisorDevices",
        "TrivisorFileServer", "TrivisorVMM", system,
      ],
      swiftSettings: strict),
    .target(
      name: "TrivisorImageArchives",
      dependencies: ["TrivisorCCompression", "TrivisorCLinux", "TrivisorFileServer", system], swiftSettings: strict),
    .target(
      name: "TrivisorLinuxCommands",
      dependencies: [
        "TrivisorBoot", "TrivisorCLinux", "TrivisorCommandChannel", "TrivisorEmbeddedGuests", "TrivisorFileServer",
        "TrivisorImageArchives", "TrivisorKernelModules", "TrivisorNetworking", "TrivisorPlatform", "TrivisorVMM",
        system,
      ],
      swiftSettings: strict),
    .target(name: "TrivisorCConfinement"),
    .target(
      name: "TrivisorConfinement",
      dependencies: ["TrivisorCConfinement", "TrivisorFileServer", "TrivisorPlatform", "TrivisorVMM", system],
      swiftSettings: strict),
    .target(name: "TrivisorCWorker"),
    .target(
      name: "Trivisor",
      dependencies: [
        "TrivisorBoot", "TrivisorCLinux", "TrivisorCWorker", "TrivisorCommandChannel", "TrivisorConfinement",
        "TrivisorDevices", "TrivisorEmbeddedGuests", "TrivisorFileServer", "TrivisorHardwareTechnique",
        "TrivisorLinuxCommands", "TrivisorNetworking", "TrivisorParavirtTechnique", "TrivisorPlatform",
        "TrivisorRewritingTechnique", "TrivisorVMM", system,
      ],
      swiftSettings: strict + [.enableUpcomingFeature("InternalImportsByDefault")]),
    .executableTarget(name: "HelloExample", dependencies: ["Trivisor"], path: "Examples/Hello", swiftSettings: strict),
    .executableTarget(name: "LinuxExample", dependencies: ["Trivisor"], path: "Examples/Linux", swiftSettings: strict),
    .executableTarget(
      name: "CompareExample", dependencies: ["Trivisor"], path: "Examples/Compare", swiftSettings: strict),
    .target(name: "TrivisorCBuildStamp"),
    .target(name: "TrivisorCLicenses", exclude: ["text"], cSettings: [.headerSearchPath("text")]),
    .target(name: "TrivisorVersion", dependencies: ["TrivisorCBuildStamp"], swiftSettings: strict),
    .target(name: "TrivisorPage", dependencies: ["TrivisorVersion"], swiftSettings: strict),
    .target(
      name: "TrivisorGuestProcess", dependencies: ["TrivisorCLinux", "TrivisorVMM", system], swiftSettings: strict),
    .target(
      name: "TrivisorTestRunner", dependencies: ["TrivisorGuestProcess", "TrivisorPage", "TrivisorVersion", system],
      swiftSettings: strict),
    .target(
      name: "TrivisorComparison",
      dependencies: ["TrivisorGuestProcess", "TrivisorPage", "TrivisorVMM", "TrivisorVersion"],
      swiftSettings: strict),
    .target(name: "TrivisorInspection", dependencies: ["TrivisorInstructionSet"], swiftSettings: strict),
    .executableTarget(
      name: "TrivisorCommand",
      dependencies: [
        "TrivisorBoot", "TrivisorCLicenses", "TrivisorCLinux", "TrivisorCommandChannel", "TrivisorComparison",
        "TrivisorConfinement", "TrivisorDebugger", "TrivisorDevices", "TrivisorEmbeddedGuests", "TrivisorFileServer",
        "TrivisorGuestProcess",
        "TrivisorHardwareTechnique", "TrivisorInspection", "TrivisorInstructionSet", "TrivisorLinuxCommands",
        "TrivisorNamedGuests", "TrivisorNetworking", "TrivisorParavirtTechnique", "TrivisorPlatform",
        "TrivisorProcessStart", "TrivisorRewritingTechnique", "TrivisorTestRunner", "TrivisorTranslation",
        "TrivisorVMM", "TrivisorVersion",
        argumentParser, system,
      ],
      swiftSettings: strict),
    .target(name: "TrivisorCAllocationCounter", path: "Tests/CAllocationCounter"),
    .target(
      name: "TrivisorSpoiledStates", dependencies: ["TrivisorVMM"], path: "Tests/SpoiledStates", swiftSettings: strict),
    .testTarget(name: "DebuggerTests", dependencies: ["TrivisorDebugger", "TrivisorVMM"], swiftSettings: strict),
    .testTarget(name: "X86Tests", dependencies: ["TrivisorX86"], swiftSettings: strict),
    .testTarget(name: "EmbeddedGuestsTests", dependencies: ["TrivisorEmbeddedGuests"], swiftSettings: strict),
    .testTarget(
      name: "InstructionSetTests", dependencies: ["TrivisorCZydis", "TrivisorInstructionSet"], swiftSettings: strict),
    .testTarget(
      name: "InterpretationTests",
      dependencies: ["TrivisorInterpretation"], swiftSettings: strict),
    .testTarget(name: "VMMTests", dependencies: ["TrivisorVMM"], swiftSettings: strict),
    .testTarget(
      name: "SandboxTests", dependencies: ["TrivisorCStub", "TrivisorSandbox", "TrivisorVMM", "TrivisorX86"],
      swiftSettings: strict),
    .target(
      name: "TrivisorHypercallFuzz", dependencies: ["TrivisorBoot", "TrivisorVMM", "TrivisorXenDomain"],
      path: "Tests/HypercallFuzz", swiftSettings: strict),
    .testTarget(
      name: "ParavirtTechniqueTests",
      dependencies: [
        "TrivisorBoot", "TrivisorCAllocationCounter", "TrivisorDevices", "TrivisorEmbeddedGuests",
        "TrivisorHypercallFuzz", "TrivisorParavirtTechnique", "TrivisorPlatform", "TrivisorSandbox",
        "TrivisorSpoiledStates", "TrivisorVMM", "TrivisorX86", "TrivisorXenDomain", system,
      ],
      swiftSettings: strict),
    .testTarget(
      name: "BootTests", dependencies: ["TrivisorBoot", "TrivisorCCompression", "TrivisorVMM", system],
      swiftSettings: strict),
    .testTarget(
      name: "FileServerTests", dependencies: ["TrivisorCLinux", "TrivisorFileServer", "TrivisorVMM", system],
      swiftSettings: strict),
    .testTarget(
      name: "KernelModulesTests", dependencies: ["TrivisorBoot", "TrivisorKernelModules", system], swiftSettings: strict
    ),
    .target(
      name: "TrivisorDeviceFuzz",
      dependencies: [
        "TrivisorCLinux", "TrivisorDevices", "TrivisorFileServer", "TrivisorNetworking", "TrivisorSpoiledStates",
        "TrivisorVMM", system,
      ],
      path: "Tests/DeviceFuzz", swiftSettings: strict),
    .executableTarget(
      name: "TrivisorDeviceFuzzRunner", dependencies: ["TrivisorDeviceFuzz", "TrivisorVMM"],
      path: "Tests/DeviceFuzzRunner", swiftSettings: strict),
    .testTarget(
      name: "DevicesTests",
      dependencies: [
        "TrivisorCLinux", "TrivisorDeviceFuzz", "TrivisorDevices", "TrivisorFileServer", "TrivisorSpoiledStates",
        "TrivisorVMM", system,
      ],
      swiftSettings: strict),
    .testTarget(
      name: "NetworkingTests",
      dependencies: ["TrivisorCLinux", "TrivisorNetworking", "TrivisorVMM", system], swiftSettings: strict),
    .testTarget(
      name: "CommandChannelTests", dependencies: ["TrivisorCommandChannel", "TrivisorDevices", "TrivisorVMM"],
      swiftSettings: strict),
    .testTarget(
      name: "ImageArchivesTests",
      dependencies: ["TrivisorCLinux", "TrivisorFileServer", "TrivisorImageArchives", system], swiftSettings: strict),
    .testTarget(
      name: "NamedGuestsTests",
      dependencies: [
        "TrivisorCLinux", "TrivisorCommandChannel", "TrivisorDevices", "TrivisorNamedGuests", "TrivisorVMM", system,
      ],
      swiftSettings: strict),
    .testTarget(
      name: "HardwareTechniqueTests",
      dependencies: ["TrivisorCAllocationCounter", "TrivisorHardwareTechnique", "TrivisorVMM"],
      swiftSettings: strict),
    .target(name: "TrivisorCChannelGuest", path: "Tests/CChannelGuest"),
    .target(name: "TrivisorCDebuggedGuest", path: "Tests/CDebuggedGuest"),
    .testTarget(
      name: "PlatformTests",
      dependencies: [
        "TrivisorBoot", "TrivisorCChannelGuest", "TrivisorCDebuggedGuest", "TrivisorCommandChannel", "TrivisorDebugger",
        "TrivisorDevices", "TrivisorEmbeddedGuests", "TrivisorHardwareTechnique",
        "TrivisorParavirtTechnique", "TrivisorPlatform", "TrivisorRewritingTechnique", "TrivisorVMM",
      ],
      swiftSettings: strict),
    .testTarget(
      name: "ComparisonTests", dependencies: ["TrivisorComparison", "TrivisorGuestProcess"], swiftSettings: strict),
    .testTarget(
      name: "TestRunnerTests", dependencies: ["TrivisorGuestProcess", "TrivisorTestRunner", system],
      swiftSettings: strict),
    .testTarget(
      name: "InspectionTests",
      dependencies: ["TrivisorBoot", "TrivisorEmbeddedGuests", "TrivisorInspection", "TrivisorInstructionSet"],
      swiftSettings: strict),
    .target(
      name: "TrivisorFuzzTargets",
      dependencies: [
        "TrivisorBoot", "TrivisorCLinux", "TrivisorCommandChannel", "TrivisorDeviceFuzz", "TrivisorDevices",
        "TrivisorEmbeddedGuests", "TrivisorFileServer", "TrivisorImageArchives", "TrivisorInspection",
        "TrivisorInstructionSet", "TrivisorInterpretation", "TrivisorKernelModules", "TrivisorTestRunner",
        "TrivisorTranslation", "TrivisorVMM", system,
      ],
      path: "Tests/FuzzTargets", exclude: ["corpus"], swiftSettings: strict),
    .target(name: "TrivisorCFuzzer", path: "Tests/CFuzzer"),
    .executableTarget(
      name: "TrivisorFuzzRunner",
      dependencies: ["TrivisorCFuzzer", "TrivisorFuzzTargets", "TrivisorProcessStart", system],
      path: "Tests/FuzzRunner", swiftSettings: strict),
    .executableTarget(
      name: "TrivisorHypercallFuzzRunner", dependencies: ["TrivisorHypercallFuzz", "TrivisorVMM"],
      path: "Tests/HypercallFuzzRunner", swiftSettings: strict),
    .testTarget(name: "FuzzTests", dependencies: ["TrivisorFuzzTargets", system], swiftSettings: strict),
    .target(name: "TrivisorCPseudoTerminal", path: "Tests/CPseudoTerminal"),
    .testTarget(
      name: "LibraryTests",
      dependencies: ["CompareExample", "HelloExample", "LinuxExample", "Trivisor"],
      swiftSettings: strict),
    .testTarget(
      name: "TrivisorTests",
      dependencies: [
        argumentParser, "TrivisorCPseudoTerminal", "TrivisorEmbeddedGuests", "TrivisorCommand",
        "TrivisorLinuxCommands", "TrivisorNetworking", "TrivisorVMM", system,
      ],
      swiftSettings: strict),
    .target(name: "TrivisorConformanceGuests", path: "Tests/ConformanceGuests"),
    .target(
      name: "TrivisorConformance",
      dependencies: ["TrivisorBoot", "TrivisorConformanceGuests", "TrivisorVMM", "TrivisorX86"],
      path: "Tests/Conformance",
      swiftSettings: strict),
    .executableTarget(
      name: "TrivisorConformanceRunner",
      dependencies: [
        "TrivisorConformance", "TrivisorHardwareTechnique", "TrivisorParavirtTechnique", "TrivisorProcessStart",
        "TrivisorRewritingTechnique", "TrivisorVMM",
      ],
      path: "Tests/ConformanceRunner", swiftSettings: strict),
    .target(name: "TrivisorCNativeRun", path: "Tests/CNativeRun"),
    .target(
      name: "TrivisorDifferential",
      dependencies: [
        "TrivisorCNativeRun", "TrivisorInstructionSet", "TrivisorRewritingTechnique", "TrivisorSpoiledStates",
        "TrivisorVMM",
      ],
      path: "Tests/Differential", swiftSettings: strict),
    .executableTarget(
      name: "TrivisorDifferentialRunner", dependencies: ["TrivisorDifferential", "TrivisorProcessStart"],
      path: "Tests/DifferentialRunner",
      swiftSettings: strict),
    .target(name: "TrivisorCSingleStep", dependencies: ["TrivisorCWorldSwitch"], path: "Tests/CSingleStep"),
    .target(
      name: "TrivisorInterleaving",
      dependencies: [
        "TrivisorCSingleStep", "TrivisorInstructionSet", "TrivisorRewritingTechnique", "TrivisorSpoiledStates",
        "TrivisorTranslation", "TrivisorVMM", "TrivisorX86",
      ],
      path: "Tests/Interleaving", swiftSettings: strict),
    .executableTarget(
      name: "TrivisorInterleavingRunner", dependencies: ["TrivisorInterleaving", "TrivisorProcessStart"],
      path: "Tests/InterleavingRunner", swiftSettings: strict),
    .executableTarget(
      name: "TrivisorTranslatorRunner",
      dependencies: ["TrivisorProcessStart", "TrivisorTranslation", "TrivisorVMM"],
      path: "Tests/TranslatorRunner", swiftSettings: strict),
    .executableTarget(
      name: "TrivisorSignalRunner", dependencies: ["TrivisorRewritingTechnique", "TrivisorVMM"],
      path: "Tests/SignalRunner",
      swiftSettings: strict),
    .target(
      name: "TrivisorSteady",
      dependencies: ["TrivisorCAllocationCounter", "TrivisorRewritingTechnique", "TrivisorVMM", "TrivisorX86"],
      path: "Tests/Steady",
      swiftSettings: strict),
    .executableTarget(
      name: "TrivisorSteadyRunner", dependencies: ["TrivisorProcessStart", "TrivisorSteady"],
      path: "Tests/SteadyRunner", swiftSettings: strict),
    .target(name: "TrivisorCTracedProcess", path: "Tests/CTracedProcess"),
    .testTarget(
      name: "RewritingTechniqueTests",
      dependencies: [
        "TrivisorCLinux", "TrivisorCTracedProcess", "TrivisorCWorldSwitch", "TrivisorConformance",
        "TrivisorDifferential", "TrivisorDifferentialRunner",
        "TrivisorInstructionSet", "TrivisorInterleavingRunner", "TrivisorRewritingTechnique", "TrivisorSignalRunner",
        "TrivisorSteady", "TrivisorTranslation", "TrivisorVMM", "TrivisorX86",
      ],
      swiftSettings: strict),
    .testTarget(
      name: "ConformanceTests",
      dependencies: ["TrivisorConformance", "TrivisorHardwareTechnique", "TrivisorParavirtTechnique", "TrivisorVMM"],
      swiftSettings: strict),
  ]
)
