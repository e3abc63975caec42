import TrivisorHardwareTechnique
import TrivisorParavirtTechnique
import TrivisorPlatform
import TrivisorRewritingTechnique

/// The techniques of this program, best first.
let techniques = TechniqueSelection([HardwareTechnique(), RewritingTechnique(), ParavirtTechnique()])
