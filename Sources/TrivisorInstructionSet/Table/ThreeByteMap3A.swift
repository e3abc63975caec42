// Opcodes after 0F 3A (AMD64 APM vol. 3, tables ), and those of VEX map 3. All have an immediate byte.

enum ThreeByteMap3A {
  /// Opcodes after 0F 3A.
  static let text: StaticString = """
    00 66 ok vpermq =Vx,Wx,Ib avx2 L1 W1
    01 66 ok vpermpd =Vx,Wx,Ib avx2 L1 W1
    02 66 ok vpblendd =Vx,Hx,Wx,Ib avx2 W0
    04 66 ok vpermilps =Vx,Wx,Ib avx W0
    05 66 ok vpermilpd =Vx,Wx,Ib avx W0
    06 66 ok vperm2f128 =Vx,Hx,Wx,Ib avx L1 W0
    08 66 ok (v)roundps =Vx,Wx,Ib sse41
    09 66 ok (v)roundpd =Vx,Wx,Ib sse41
    0A 66 ok (v)roundss =Vd,Hx,Wd,Ib sse41
    0B 66 ok (v)roundsd =Vq,Hx,Wq,Ib sse41
    0C 66 ok (v)blendps *Vx,Hx,Wx,Ib sse41
    0D 66 ok (v)blendpd *Vx,Hx,Wx,Ib sse41
    0E 66 ok (v)pblendw *Vx,Hx,Wx,Ib sse41 256:avx2
    0F np ok palignr +Pq,Qq,Ib ssse3
    0F 66 ok (v)palignr *Vx,Hx,Wx,Ib ssse3 256:avx2
    14 66 ok (v)pextrb =Mb,Vdq,Ib sse41 L0
    14 66 ok (v)pextrb =Rd,Vdq,Ib sse41 L0
    15 66 ok (v)pextrw =Mw,Vdq,Ib sse41 L0
    15 66 ok (v)pextrw =Rd,Vdq,Ib sse41 L0
    16 66 ok (v)pextrd =Ey,Vdq,Ib sse41 L0
    17 66 ok (v)extractps =Ed,Vdq,Ib sse41 L0
    18 66 ok vinsertf128 =Vx,Hx,Wdq,Ib avx L1 W0
    19 66 ok vextractf128 =Wdq,Vx,Ib avx L1 W0
    1D 66 ok vcvtps2ph =Wh,Vx,Ib f16c W0
    20 66 ok (v)pinsrb *Vdq,Hdq,Mb,Ib sse41 L0
    20 66 ok (v)pinsrb *Vdq,Hdq,Rd,Ib sse41 L0
    21 66 ok (v)insertps *Vdq,Hdq,Md,Ib sse41 L0
    21 66 ok (v)insertps *Vdq,Hdq,Udq,Ib sse41 L0
    22 66 ok (v)pinsrd *Vdq,Hdq,Ey,Ib sse41 L0
    38 66 ok vinserti128 =Vx,Hx,Wdq,Ib avx2 L1 W0
    39 66 ok vextracti128 =Wdq,Vx,Ib avx2 L1 W0
    40 66 ok (v)dpps *Vx,Hx,Wx,Ib sse41
    41 66 ok (v)dppd *Vdq,Hdq,Wdq,Ib sse41 L0
    42 66 ok (v)mpsadbw *Vx,Hx,Wx,Ib sse41 256:avx2
    44 66 ok (v)pclmulqdq *Vx,Hx,Wx,Ib pclmul 256:vpclmul
    46 66 ok vperm2i128 =Vx,Hx,Wx,Ib avx2 L1 W0
    4A 66 ok vblendvps =Vx,Hx,Wx,Lx avx W0
    4B 66 ok vblendvpd =Vx,Hx,Wx,Lx avx W0
    4C 66 ok vpblendvb =Vx,Hx,Wx,Lx avx 256:avx2 W0
    60 66 ok (v)pcmpestrm Vdq,Wdq,Ib |=xmm0,yAX,yDX sse42 L0 w:oszc 0:ap unaligned
    61 66 ok (v)pcmpestri Vdq,Wdq,Ib |=ecx,yAX,yDX sse42 L0 w:oszc 0:ap unaligned
    62 66 ok (v)pcmpistrm Vdq,Wdq,Ib |=xmm0 sse42 L0 w:oszc 0:ap unaligned
    63 66 ok (v)pcmpistri Vdq,Wdq,Ib |=ecx sse42 L0 w:oszc 0:ap unaligned
    CC np ok sha1rnds4 +Vx,Wx,Ib sha unaligned
    CE 66 ok gf2p8affineqb +Vx,Wx,Ib gfni
    CE 66 ok vgf2p8affineqb =Vx,Hx,Wx,Ib gfni W1 vex
    CF 66 ok gf2p8affineinvqb +Vx,Wx,Ib gfni
    CF 66 ok vgf2p8affineinvqb =Vx,Hx,Wx,Ib gfni W1 vex
    DF 66 ok (v)aeskeygenassist =Vdq,Wdq,Ib aes L0
    F0 f3 ud hreset Ib reg other
    F0 f2 ok rorx =Gy,Ey,Ib bmi2 L0 vex
    """
}
