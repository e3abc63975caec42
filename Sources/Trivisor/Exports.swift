// A client needs one import: paths and descriptors are the system package's.

@_exported public import SystemPackage
