import HardwareTechnique
import ParavirtTechnique
import Platform

/// The techniques of this program, best first.
let techniques = TechniqueSelection([HardwareTechnique(), ParavirtTechnique()])
