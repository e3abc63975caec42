// Opcodes after 0F 38 (AMD64 APM vol. 3, tables ), and those of VEX map 2.

enum ThreeByteMap38 {
  /// Opcodes after 0F 38, but for FMA.
  static let text: StaticString = """
    # SSSE3
    00 np ok pshufb +Pq,Qq ssse3
    00 66 ok (v)pshufb *Vx,Hx,Wx ssse3 256:avx2
    01 np ok phaddw +Pq,Qq ssse3
    01 66 ok (v)phaddw *Vx,Hx,Wx ssse3 256:avx2
    02 np ok phaddd +Pq,Qq ssse3
    02 66 ok (v)phaddd *Vx,Hx,Wx ssse3 256:avx2
    03 np ok phaddsw +Pq,Qq ssse3
    03 66 ok (v)phaddsw *Vx,Hx,Wx ssse3 256:avx2
    04 np ok pmaddubsw +Pq,Qq ssse3
    04 66 ok (v)pmaddubsw *Vx,Hx,Wx ssse3 256:avx2
    05 np ok phsubw +Pq,Qq ssse3
    05 66 ok (v)phsubw *Vx,Hx,Wx ssse3 256:avx2
    06 np ok phsubd +Pq,Qq ssse3
    06 66 ok (v)phsubd *Vx,Hx,Wx ssse3 256:avx2
    07 np ok phsubsw +Pq,Qq ssse3
    07 66 ok (v)phsubsw *Vx,Hx,Wx ssse3 256:avx2
    08 np ok psignb +Pq,Qq ssse3
    08 66 ok (v)psignb *Vx,Hx,Wx ssse3 256:avx2
    09 np ok psignw +Pq,Qq ssse3
    09 66 ok (v)psignw *Vx,Hx,Wx ssse3 256:avx2
    0A np ok psignd +Pq,Qq ssse3
    0A 66 ok (v)psignd *Vx,Hx,Wx ssse3 256:avx2
    0B np ok pmulhrsw +Pq,Qq ssse3
    0B 66 ok (v)pmulhrsw *Vx,Hx,Wx ssse3 256:avx2
    # SSE4.1 and AVX
    0C 66 ok vpermilps =Vx,Hx,Wx avx W0
    0D 66 ok vpermilpd =Vx,Hx,Wx avx W0
    0E 66 ok vtestps Vx,Wx avx W0 w:zc 0:osap
    0F 66 ok vtestpd Vx,Wx avx W0 w:zc 0:osap
    10 66 ok pblendvb +Vx,Wx,xmm0 sse41
    13 66 ok vcvtph2ps =Vx,Wh f16c W0
    14 66 ok blendvps +Vx,Wx,xmm0 sse41
    15 66 ok blendvpd +Vx,Wx,xmm0 sse41
    16 66 ok vpermps =Vx,Hx,Wx avx2 L1 W0
    17 66 ok (v)ptest Vx,Wx sse41 w:zc 0:osap
    18 66 ok vbroadcastss =Vx,Md avx W0
    18 66 ok vbroadcastss =Vx,Ud avx2 W0
    19 66 ok vbroadcastsd =Vx,Mq avx W0 L1
    19 66 ok vbroadcastsd =Vx,Uq avx2 W0 L1
    1A 66 ok vbroadcastf128 =Vx,Mdq avx W0 L1
    1C np ok pabsb =Pq,Qq ssse3
    1C 66 ok (v)pabsb =Vx,Wx ssse3 256:avx2
    1D np ok pabsw =Pq,Qq ssse3
    1D 66 ok (v)pabsw =Vx,Wx ssse3 256:avx2
    1E np ok pabsd =Pq,Qq ssse3
    1E 66 ok (v)pabsd =Vx,Wx ssse3 256:avx2
    20 66 ok (v)pmovsxbw =Vx,Wh sse41 256:avx2
    21 66 ok (v)pmovsxbd =Vx,Wf sse41 256:avx2
    22 66 ok (v)pmovsxbq =Vx,We sse41 256:avx2
    23 66 ok (v)pmovsxwd =Vx,Wh sse41 256:avx2
    24 66 ok (v)pmovsxwq =Vx,Wf sse41 256:avx2
    25 66 ok (v)pmovsxdq =Vx,Wh sse41 256:avx2
    28 66 ok (v)pmuldq *Vx,Hx,Wx sse41 256:avx2
    29 66 ok (v)pcmpeqq *Vx,Hx,Wx sse41 256:avx2
    2A 66 ok (v)movntdqa =Vx,Mx sse41 256:avx2 aligned
    2B 66 ok (v)packusdw *Vx,Hx,Wx sse41 256:avx2
    2C 66 ok vmaskmovps =Vx,Hx,%Mx avx W0
    2D 66 ok vmaskmovpd =Vx,Hx,%Mx avx W0
    2E 66 ok vmaskmovps ?Mx,Hx,Vx avx W0
    2F 66 ok vmaskmovpd ?Mx,Hx,Vx avx W0
    30 66 ok (v)pmovzxbw =Vx,Wh sse41 256:avx2
    31 66 ok (v)pmovzxbd =Vx,Wf sse41 256:avx2
    32 66 ok (v)pmovzxbq =Vx,We sse41 256:avx2
    33 66 ok (v)pmovzxwd =Vx,Wh sse41 256:avx2
    34 66 ok (v)pmovzxwq =Vx,Wf sse41 256:avx2
    35 66 ok (v)pmovzxdq =Vx,Wh sse41 256:avx2
    36 66 ok vpermd =Vx,Hx,Wx avx2 L1 W0
    37 66 ok (v)pcmpgtq *Vx,Hx,Wx sse42 256:avx2
    38 66 ok (v)pminsb *Vx,Hx,Wx sse41 256:avx2
    39 66 ok (v)pminsd *Vx,Hx,Wx sse41 256:avx2
    3A 66 ok (v)pminuw *Vx,Hx,Wx sse41 256:avx2
    3B 66 ok (v)pminud *Vx,Hx,Wx sse41 256:avx2
    3C 66 ok (v)pmaxsb *Vx,Hx,Wx sse41 256:avx2
    3D 66 ok (v)pmaxsd *Vx,Hx,Wx sse41 256:avx2
    3E 66 ok (v)pmaxuw *Vx,Hx,Wx sse41 256:avx2
    3F 66 ok (v)pmaxud *Vx,Hx,Wx sse41 256:avx2
    40 66 ok (v)pmulld *Vx,Hx,Wx sse41 256:avx2
    41 66 ok (v)phminposuw =Vdq,Wdq sse41 L0
    # AVX2
    45 66 ok vpsrlvd =Vx,Hx,Wx avx2 W0
    45 66 ok vpsrlvq =Vx,Hx,Wx avx2 W1
    46 66 ok vpsravd =Vx,Hx,Wx avx2 W0
    47 66 ok vpsllvd =Vx,Hx,Wx avx2 W0
    47 66 ok vpsllvq =Vx,Hx,Wx avx2 W1
    58 66 ok vpbroadcastd =Vx,Wd avx2 W0
    59 66 ok vpbroadcastq =Vx,Wq avx2 W0
    5A 66 ok vbroadcasti128 =Vx,Mdq avx2 W0 L1
    78 66 ok vpbroadcastb =Vx,Wb avx2 W0
    79 66 ok vpbroadcastw =Vx,Ww avx2 W0
    # System
    80 66 priv invept Gn,Mdq vmx
    81 66 priv invvpid Gn,Mdq vmx
    82 66 priv invpcid Gn,Mdq invpcid
    # Masked moves and gathers
    8C 66 ok vpmaskmovd =Vx,Hx,%Mx avx2 W0
    8C 66 ok vpmaskmovq =Vx,Hx,%Mx avx2 W1
    8E 66 ok vpmaskmovd ?Mx,Hx,Vx avx2 W0
    8E 66 ok vpmaskmovq ?Mx,Hx,Vx avx2 W1
    90 66 mem vpgatherdd ~Vx,@dd,+Hx avx2 W0
    90 66 mem vpgatherdq ~Vx,@dq,+Hx avx2 W1
    91 66 mem vpgatherqd ~Vh,@qd,+Hh avx2 W0
    91 66 mem vpgatherqq ~Vx,@qq,+Hx avx2 W1
    92 66 mem vgatherdps ~Vx,@dd,+Hx avx2 W0
    92 66 mem vgatherdpd ~Vx,@dq,+Hx avx2 W1
    93 66 mem vgatherqps ~Vh,@qd,+Hh avx2 W0
    93 66 mem vgatherqpd ~Vx,@qq,+Hx avx2 W1
    # SHA, GFNI, AES
    C8 np ok sha1nexte +Vx,Wx sha unaligned
    C9 np ok sha1msg1 +Vx,Wx sha unaligned
    CA np ok sha1msg2 +Vx,Wx sha unaligned
    CB np ok sha256rnds2 +Vx,Wx,xmm0 sha unaligned
    CC np ok sha256msg1 +Vx,Wx sha unaligned
    CD np ok sha256msg2 +Vx,Wx sha unaligned
    CF 66 ok gf2p8mulb +Vx,Wx gfni
    CF 66 ok vgf2p8mulb =Vx,Hx,Wx gfni W0 vex
    DB 66 ok (v)aesimc =Vdq,Wdq aes L0
    DC 66 ok (v)aesenc *Vx,Hx,Wx aes 256:vaes
    DD 66 ok (v)aesenclast *Vx,Hx,Wx aes 256:vaes
    DE 66 ok (v)aesdec *Vx,Hx,Wx aes 256:vaes
    DF 66 ok (v)aesdeclast *Vx,Hx,Wx aes 256:vaes
    D8 f3 ud aesencwide Mq keylock
    DC f3 ud aesenc128kl Vx,Wx keylock
    DD f3 ud aesdec128kl Vx,Wx keylock
    DE f3 ud aesenc256kl Vx,Wx keylock
    DF f3 ud aesdec256kl Vx,Wx keylock
    FA f3 ud encodekey128 Gd,Rd keylock
    FB f3 ud encodekey256 Gd,Rd keylock
    # General registers
    F0 nf ok movbe =Gv,Mv movbe
    F1 nf ok movbe =Mv,Gv movbe
    F0 f2 ok crc32 +Gy,Eb sse42
    F1 f2 ok crc32 +Gy,Ev sse42
    F5 66 ud wruss =My,Gy cet
    F6 np ud wrss =My,Gy cet
    F6 66 ok adcx +Gy,Ey adx t:c w:c
    F6 f3 ok adox +Gy,Ey adx t:o w:o
    F8 66 ud movdir64b Gn,M64 movdir
    F8 f2 ud enqcmd Gn,M64 other
    F8 f3 ud enqcmds Gn,M64 other
    F9 np ud movdiri =My,Gy movdir
    F2 np ok andn =Gy,By,Ey bmi1 L0 vex w:sz 0:oc u:ap
    F3/1 np ok blsr =By,Ey bmi1 L0 vex w:szc 0:o u:ap
    F3/2 np ok blsmsk =By,Ey bmi1 L0 vex w:sc 0:zo u:ap
    F3/3 np ok blsi =By,Ey bmi1 L0 vex w:szc 0:o u:ap
    F5 np ok bzhi =Gy,Ey,By bmi2 L0 vex w:szc 0:o u:ap
    F5 f3 ok pext =Gy,By,Ey bmi2 L0 vex
    F5 f2 ok pdep =Gy,By,Ey bmi2 L0 vex
    F6 f2 ok mulx =Gy,=By,Ey |rDX bmi2 L0 vex
    F7 np ok bextr =Gy,Ey,By bmi1 L0 vex w:z 0:oc u:sap
    F7 66 ok shlx =Gy,Ey,By bmi2 L0 vex
    F7 f3 ok sarx =Gy,Ey,By bmi2 L0 vex
    F7 f2 ok shrx =Gy,Ey,By bmi2 L0 vex
    """

  /// The fused multiply-adds.
  static let fma: StaticString = """
    96 66 ok vfmaddsub132ps +Vx,Hx,Wx fma W0
    96 66 ok vfmaddsub132pd +Vx,Hx,Wx fma W1
    97 66 ok vfmsubadd132ps +Vx,Hx,Wx fma W0
    97 66 ok vfmsubadd132pd +Vx,Hx,Wx fma W1
    98 66 ok vfmadd132ps +Vx,Hx,Wx fma W0
    98 66 ok vfmadd132pd +Vx,Hx,Wx fma W1
    99 66 ok vfmadd132ss +Vx,Hx,Wd fma W0
    99 66 ok vfmadd132sd +Vx,Hx,Wq fma W1
    9A 66 ok vfmsub132ps +Vx,Hx,Wx fma W0
    9A 66 ok vfmsub132pd +Vx,Hx,Wx fma W1
    9B 66 ok vfmsub132ss +Vx,Hx,Wd fma W0
    9B 66 ok vfmsub132sd +Vx,Hx,Wq fma W1
    9C 66 ok vfnmadd132ps +Vx,Hx,Wx fma W0
    9C 66 ok vfnmadd132pd +Vx,Hx,Wx fma W1
    9D 66 ok vfnmadd132ss +Vx,Hx,Wd fma W0
    9D 66 ok vfnmadd132sd +Vx,Hx,Wq fma W1
    9E 66 ok vfnmsub132ps +Vx,Hx,Wx fma W0
    9E 66 ok vfnmsub132pd +Vx,Hx,Wx fma W1
    9F 66 ok vfnmsub132ss +Vx,Hx,Wd fma W0
    9F 66 ok vfnmsub132sd +Vx,Hx,Wq fma W1
    A6 66 ok vfmaddsub213ps +Vx,Hx,Wx fma W0
    A6 66 ok vfmaddsub213pd +Vx,Hx,Wx fma W1
    A7 66 ok vfmsubadd213ps +Vx,Hx,Wx fma W0
    A7 66 ok vfmsubadd213pd +Vx,Hx,Wx fma W1
    A8 66 ok vfmadd213ps +Vx,Hx,Wx fma W0
    A8 66 ok vfmadd213pd +Vx,Hx,Wx fma W1
    A9 66 ok vfmadd213ss +Vx,Hx,Wd fma W0
    A9 66 ok vfmadd213sd +Vx,Hx,Wq fma W1
    AA 66 ok vfmsub213ps +Vx,Hx,Wx fma W0
    AA 66 ok vfmsub213pd +Vx,Hx,Wx fma W1
    AB 66 ok vfmsub213ss +Vx,Hx,Wd fma W0
    AB 66 ok vfmsub213sd +Vx,Hx,Wq fma W1
    AC 66 ok vfnmadd213ps +Vx,Hx,Wx fma W0
    AC 66 ok vfnmadd213pd +Vx,Hx,Wx fma W1
    AD 66 ok vfnmadd213ss +Vx,Hx,Wd fma W0
    AD 66 ok vfnmadd213sd +Vx,Hx,Wq fma W1
    AE 66 ok vfnmsub213ps +Vx,Hx,Wx fma W0
    AE 66 ok vfnmsub213pd +Vx,Hx,Wx fma W1
    AF 66 ok vfnmsub213ss +Vx,Hx,Wd fma W0
    AF 66 ok vfnmsub213sd +Vx,Hx,Wq fma W1
    B6 66 ok vfmaddsub231ps +Vx,Hx,Wx fma W0
    B6 66 ok vfmaddsub231pd +Vx,Hx,Wx fma W1
    B7 66 ok vfmsubadd231ps +Vx,Hx,Wx fma W0
    B7 66 ok vfmsubadd231pd +Vx,Hx,Wx fma W1
    B8 66 ok vfmadd231ps +Vx,Hx,Wx fma W0
    B8 66 ok vfmadd231pd +Vx,Hx,Wx fma W1
    B9 66 ok vfmadd231ss +Vx,Hx,Wd fma W0
    B9 66 ok vfmadd231sd +Vx,Hx,Wq fma W1
    BA 66 ok vfmsub231ps +Vx,Hx,Wx fma W0
    BA 66 ok vfmsub231pd +Vx,Hx,Wx fma W1
    BB 66 ok vfmsub231ss +Vx,Hx,Wd fma W0
    BB 66 ok vfmsub231sd +Vx,Hx,Wq fma W1
    BC 66 ok vfnmadd231ps +Vx,Hx,Wx fma W0
    BC 66 ok vfnmadd231pd +Vx,Hx,Wx fma W1
    BD 66 ok vfnmadd231ss +Vx,Hx,Wd fma W0
    BD 66 ok vfnmadd231sd +Vx,Hx,Wq fma W1
    BE 66 ok vfnmsub231ps +Vx,Hx,Wx fma W0
    BE 66 ok vfnmsub231pd +Vx,Hx,Wx fma W1
    BF 66 ok vfnmsub231ss +Vx,Hx,Wd fma W0
    BF 66 ok vfnmsub231sd +Vx,Hx,Wq fma W1
    """
}
