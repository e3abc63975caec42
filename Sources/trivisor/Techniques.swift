import HardwareTechnique
import ParavirtTechnique
import Platform
import RewritingTechnique

/// The techniques of this program, best first.
let techniques = TechniqueSelection([HardwareTechnique(), RewritingTechnique(), ParavirtTechnique()])
