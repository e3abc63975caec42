// Opcodes after 0F (AMD64 APM vol. 3, tables ), and those of VEX map 1.

enum TwoByteMap {
  /// Opcodes after 0F.
  static let text: StaticString = """
    # Groups 6 and 7: descriptor tables, virtualization, and a reg-and-rm each for newer ones
    00/0 - sens sldt =Mw
    00/0 - sens sldt =Rv
    00/1 - sens str =Mw
    00/1 - sens str =Rv
    00/2 - priv lldt Ew
    00/3 - priv ltr Ew
    00/4 - sens verr Ew w:z
    00/5 - sens verw Ew w:z
    01/0 - sens sgdt =Ms
    01/1 - sens sidt =Ms
    01/2 - priv lgdt Ms
    01/3 - priv lidt Ms
    01/4 - sens smsw =Mw
    01/4 - sens smsw =Rv
    01/5 f3 ud rstorssp +Mq cet
    01/6 - priv lmsw Ew
    01/7 - priv invlpg M-
    01/0.0 np ud enclv - sgx
    01/0.1 np priv vmcall - vmx
    01/0.2 np priv vmlaunch - vmx
    01/0.3 np priv vmresume - vmx
    01/0.4 np priv vmxoff - vmx
    01/0.5 np ud pconfig - other
    01/0.6 - ud wrmsrns - other
    01/1.0 np priv monitor - |aAX,ecx,edx monitor
    01/1.1 np priv mwait - |eax,ecx monitor
    01/1.2 np priv clac - smap 0:k
    01/1.3 np priv stac - smap 1:k
    01/1.4 - ud tdcall - other
    01/1.5 - ud seamret - other
    01/1.6 - ud seamops - other
    01/1.7 - ud encls - sgx
    01/2.0 np sens xgetbv - |ecx,=eax,=edx xsave
    01/2.1 np priv xsetbv - |ecx,eax,edx xsave
    01/2.4 np sens vmfunc - |eax vmx
    01/2.5 np ud xend - rtm
    01/2.6 np ud xtest - rtm
    01/2.7 np ud enclu - sgx
    01/3.0 - priv vmrun - |aAX svm
    01/3.1 - sens vmmcall - svm
    01/3.2 - priv vmload - |aAX svm
    01/3.3 - priv vmsave - |aAX svm
    01/3.4 - priv stgi - svm
    01/3.5 - priv clgi - svm
    01/3.6 - priv skinit - |eax svm
    01/3.7 - priv invlpga - |aAX,ecx svm
    01/5.0 np ud serialize - other
    01/5.0 f3 ud setssbsy - cet
    01/5.0 f2 ud xsusldtrk - other
    01/5.1 f2 ud xresldtrk - other
    01/5.2 f3 ud saveprevssp - cet
    01/5.4 f3 ud uiret - other
    01/5.5 f3 ud testui - other
    01/5.6 f3 ud clui - other
    01/5.7 f3 ud stui - other
    01/5.6 np sens rdpkru - |ecx,=eax,=edx pku
    01/5.7 np sens wrpkru - |ecx,edx,eax pku
    01/7.0 - priv swapgs - o64
    01/7.1 - sens rdtscp - |=eax,=ecx,=edx rdtscp
    01/7.2 f3 ud mcommit - other
    01/7.2 np sens monitorx - |aAX,ecx,edx monitorx
    01/7.3 np sens mwaitx - |eax,ecx,ebx monitorx
    01/7.4 - sens clzero - |aAX clzero
    01/7.5 - ud rdpru - other
    01/7.6 f3 ud rmpadjust - other
    01/7.6 f2 ud rmpupdate - other
    01/7.6 np priv invlpgb - |aAX,edx,ecx invlpgb
    01/7.7 f3 ud psmash - other
    01/7.7 f2 ud pvalidate - other
    01/7.7 np priv tlbsync - invlpgb
    # System instructions
    02 - sens lar ?Gv,Mw w:z
    02 - sens lar ?Gv,Rv w:z
    03 - sens lsl ?Gv,Mw w:z
    03 - sens lsl ?Gv,Rz w:z
    05 - sys syscall - |=rcx,=r11,=cs,=ss o64 t:all w:all
    05 - sys syscall - |=rcx,=cs,=ss i64 w:all
    06 - priv clts -
    07 - priv sysret - |rcx,r11,=cs,=ss o64 w:all
    07 - priv sysret - |rcx,=cs,=ss i64 w:all
    08 - priv invd -
    09 - priv wbinvd -
    0B - ud ud2 -
    0D/1 - ok prefetchw M- prefetchw
    0D - ok prefetch M- prefetchw
    0E - ud femms - 3dnow
    # Vector moves
    10 np ok (v)movups =Vx,Wx sse unaligned
    10 66 ok (v)movupd =Vx,Wx sse2 unaligned
    10 f3 ok (v)movss =Vx,Md sse
    10 f3 ok (v)movss =Vd,Hx,Ud sse
    10 f2 ok (v)movsd =Vx,Mq sse2
    10 f2 ok (v)movsd =Vq,Hx,Uq sse2
    11 np ok (v)movups =Wx,Vx sse unaligned
    11 66 ok (v)movupd =Wx,Vx sse2 unaligned
    11 f3 ok (v)movss =Md,Vx sse
    11 f3 ok (v)movss =Ud,Hx,Vd sse
    11 f2 ok (v)movsd =Mq,Vx sse2
    11 f2 ok (v)movsd =Uq,Hx,Vq sse2
    12 np ok (v)movlps =Vq,Hx,Mq sse L0
    12 np ok (v)movhlps =Vq,Hx,Uq sse L0
    12 66 ok (v)movlpd =Vq,Hx,Mq sse2 L0
    12 f3 ok (v)movsldup =Vx,Wx sse3
    12 f2 ok (v)movddup =Vx,Wk sse3
    13 np ok (v)movlps =Mq,Vq sse L0
    13 66 ok (v)movlpd =Mq,Vq sse2 L0
    14 np ok (v)unpcklps *Vx,Hx,Wx sse
    14 66 ok (v)unpcklpd *Vx,Hx,Wx sse2
    15 np ok (v)unpckhps *Vx,Hx,Wx sse
    15 66 ok (v)unpckhpd *Vx,Hx,Wx sse2
    16 np ok (v)movhps =Vq,Hx,Mq sse L0
    16 np ok (v)movlhps =Vq,Hx,Uq sse L0
    16 66 ok (v)movhpd =Vq,Hx,Mq sse2 L0
    16 f3 ok (v)movshdup =Vx,Wx sse3
    17 np ok (v)movhps =Mq,Vq sse L0
    17 66 ok (v)movhpd =Mq,Vq sse2 L0
    # Prefetches and the NOPs around them, of which newer extensions have taken some
    18/0 - ok prefetchnta M- sse
    18/1 - ok prefetcht0 M- sse
    18/2 - ok prefetcht1 M- sse
    18/3 - ok prefetcht2 M- sse
    18 - ok nop M-
    18 - ok nop Rv
    19 - ok nop M-
    19 - ok nop Rv
    1A - ok nop M-
    1A - ok nop Rv
    1B - ok nop M-
    1B - ok nop Rv
    1C - ok nop M-
    1C - ok nop Rv
    1D - ok nop M-
    1D - ok nop Rv
    1E - ok nop M-
    1E - ok nop Rv
    1F - ok nop M-
    1F - ok nop Rv
    # Control and debug registers: mod is ignored
    20 - priv mov =Rn,Cn
    21 - priv mov =Rn,Dn
    22 - priv mov =Cn,Rn
    23 - priv mov =Dn,Rn
    # More moves, and conversions
    28 np ok (v)movaps =Vx,Wx sse aligned
    28 66 ok (v)movapd =Vx,Wx sse2 aligned
    29 np ok (v)movaps =Wx,Vx sse aligned
    29 66 ok (v)movapd =Wx,Vx sse2 aligned
    2A np ok cvtpi2ps =Vq,Qq sse
    2A 66 ok cvtpi2pd =Vx,Qq sse2
    2A f3 ok (v)cvtsi2ss *Vd,Hx,Ey sse
    2A f2 ok (v)cvtsi2sd *Vq,Hx,Ey sse2
    2B np ok (v)movntps =Mx,Vx sse aligned
    2B 66 ok (v)movntpd =Mx,Vx sse2 aligned
    2B f3 ok movntss =Md,Vx sse4a
    2B f2 ok movntsd =Mq,Vx sse4a
    2C np ok cvttps2pi =Pq,Wq sse
    2C 66 ok cvttpd2pi =Pq,Wx sse2
    2C f3 ok (v)cvttss2si =Gy,Wd sse
    2C f2 ok (v)cvttsd2si =Gy,Wq sse2
    2D np ok cvtps2pi =Pq,Wq sse
    2D 66 ok cvtpd2pi =Pq,Wx sse2
    2D f3 ok (v)cvtss2si =Gy,Wd sse
    2D f2 ok (v)cvtsd2si =Gy,Wq sse2
    2E np ok (v)ucomiss Vd,Wd sse w:zpc 0:osa
    2E 66 ok (v)ucomisd Vq,Wq sse2 w:zpc 0:osa
    2F np ok (v)comiss Vd,Wd sse w:zpc 0:osa
    2F 66 ok (v)comisd Vq,Wq sse2 w:zpc 0:osa
    # Model-specific registers and fast calls
    30 - priv wrmsr - |eax,edx,ecx
    31 - sens rdtsc - |=eax,=edx
    32 - priv rdmsr - |=eax,=edx,ecx
    33 - sens rdpmc - |=eax,=edx,ecx
    34 - sys sysenter - |=rSP,=cs,=ss i64 w:i
    35 - priv sysexit - |ecx,edx,=rSP,=cs,=ss i64
    37 np ud getsec - smx
    # Conditional moves
    40+cc - ok cmovCC ?Gv,Ev
    # Floating-point arithmetic
    50 np ok (v)movmskps =Gd,Ux sse
    50 66 ok (v)movmskpd =Gd,Ux sse2
    51 np ok (v)sqrtps =Vx,Wx sse
    51 66 ok (v)sqrtpd =Vx,Wx sse2
    51 f3 ok (v)sqrtss =Vd,Hx,Wd sse
    51 f2 ok (v)sqrtsd =Vq,Hx,Wq sse2
    52 np ok (v)rsqrtps =Vx,Wx sse
    52 f3 ok (v)rsqrtss =Vd,Hx,Wd sse
    53 np ok (v)rcpps =Vx,Wx sse
    53 f3 ok (v)rcpss =Vd,Hx,Wd sse
    54 np ok (v)andps *Vx,Hx,Wx sse
    54 66 ok (v)andpd *Vx,Hx,Wx sse2
    55 np ok (v)andnps *Vx,Hx,Wx sse
    55 66 ok (v)andnpd *Vx,Hx,Wx sse2
    56 np ok (v)orps *Vx,Hx,Wx sse
    56 66 ok (v)orpd *Vx,Hx,Wx sse2
    57 np ok (v)xorps *Vx,Hx,Wx sse
    57 66 ok (v)xorpd *Vx,Hx,Wx sse2
    58 np ok (v)addps *Vx,Hx,Wx sse
    58 66 ok (v)addpd *Vx,Hx,Wx sse2
    58 f3 ok (v)addss *Vx,Hx,Wd sse
    58 f2 ok (v)addsd *Vx,Hx,Wq sse2
    59 np ok (v)mulps *Vx,Hx,Wx sse
    59 66 ok (v)mulpd *Vx,Hx,Wx sse2
    59 f3 ok (v)mulss *Vx,Hx,Wd sse
    59 f2 ok (v)mulsd *Vx,Hx,Wq sse2
    5A np ok (v)cvtps2pd =Vx,Wh sse2
    5A 66 ok (v)cvtpd2ps =Vdq,Wx sse2
    5A f3 ok (v)cvtss2sd =Vq,Hx,Wd sse2
    5A f2 ok (v)cvtsd2ss =Vd,Hx,Wq sse2
    5B np ok (v)cvtdq2ps =Vx,Wx sse2
    5B 66 ok (v)cvtps2dq =Vx,Wx sse2
    5B f3 ok (v)cvttps2dq =Vx,Wx sse2
    5C np ok (v)subps *Vx,Hx,Wx sse
    5C 66 ok (v)subpd *Vx,Hx,Wx sse2
    5C f3 ok (v)subss *Vx,Hx,Wd sse
    5C f2 ok (v)subsd *Vx,Hx,Wq sse2
    5D np ok (v)minps *Vx,Hx,Wx sse
    5D 66 ok (v)minpd *Vx,Hx,Wx sse2
    5D f3 ok (v)minss *Vx,Hx,Wd sse
    5D f2 ok (v)minsd *Vx,Hx,Wq sse2
    5E np ok (v)divps *Vx,Hx,Wx sse
    5E 66 ok (v)divpd *Vx,Hx,Wx sse2
    5E f3 ok (v)divss *Vx,Hx,Wd sse
    5E f2 ok (v)divsd *Vx,Hx,Wq sse2
    5F np ok (v)maxps *Vx,Hx,Wx sse
    5F 66 ok (v)maxpd *Vx,Hx,Wx sse2
    5F f3 ok (v)maxss *Vx,Hx,Wd sse
    5F f2 ok (v)maxsd *Vx,Hx,Wq sse2
    # Integer vectors, MMX and SSE2 in pairs
    60 np ok punpcklbw +Pq,Qd mmx
    60 66 ok (v)punpcklbw *Vx,Hx,Wx sse2 256:avx2
    61 np ok punpcklwd +Pq,Qd mmx
    61 66 ok (v)punpcklwd *Vx,Hx,Wx sse2 256:avx2
    62 np ok punpckldq +Pq,Qd mmx
    62 66 ok (v)punpckldq *Vx,Hx,Wx sse2 256:avx2
    63 np ok packsswb +Pq,Qq mmx
    63 66 ok (v)packsswb *Vx,Hx,Wx sse2 256:avx2
    64 np ok pcmpgtb +Pq,Qq mmx
    64 66 ok (v)pcmpgtb *Vx,Hx,Wx sse2 256:avx2
    65 np ok pcmpgtw +Pq,Qq mmx
    65 66 ok (v)pcmpgtw *Vx,Hx,Wx sse2 256:avx2
    66 np ok pcmpgtd +Pq,Qq mmx
    66 66 ok (v)pcmpgtd *Vx,Hx,Wx sse2 256:avx2
    67 np ok packuswb +Pq,Qq mmx
    67 66 ok (v)packuswb *Vx,Hx,Wx sse2 256:avx2
    68 np ok punpckhbw +Pq,Qq mmx
    68 66 ok (v)punpckhbw *Vx,Hx,Wx sse2 256:avx2
    69 np ok punpckhwd +Pq,Qq mmx
    69 66 ok (v)punpckhwd *Vx,Hx,Wx sse2 256:avx2
    6A np ok punpckhdq +Pq,Qq mmx
    6A 66 ok (v)punpckhdq *Vx,Hx,Wx sse2 256:avx2
    6B np ok packssdw +Pq,Qq mmx
    6B 66 ok (v)packssdw *Vx,Hx,Wx sse2 256:avx2
    6C 66 ok (v)punpcklqdq *Vx,Hx,Wx sse2 256:avx2
    6D 66 ok (v)punpckhqdq *Vx,Hx,Wx sse2 256:avx2
    6E np ok movd =Pq,Ey mmx
    6E 66 ok (v)movd =Vdq,Ey sse2 L0
    6F np ok movq =Pq,Qq mmx
    6F 66 ok (v)movdqa =Vx,Wx sse2 aligned
    6F f3 ok (v)movdqu =Vx,Wx sse2 unaligned
    70 np ok pshufw =Pq,Qq,Ib mmxext
    70 66 ok (v)pshufd =Vx,Wx,Ib sse2 256:avx2
    70 f3 ok (v)pshufhw =Vx,Wx,Ib sse2 256:avx2
    70 f2 ok (v)pshuflw =Vx,Wx,Ib sse2 256:avx2
    71/2 np ok psrlw +Nq,Ib mmx
    71/2 66 ok psrlw +Ux,Ib sse2
    71/2 66 ok vpsrlw =Hx,Ux,Ib avx 256:avx2
    71/4 np ok psraw +Nq,Ib mmx
    71/4 66 ok psraw +Ux,Ib sse2
    71/4 66 ok vpsraw =Hx,Ux,Ib avx 256:avx2
    71/6 np ok psllw +Nq,Ib mmx
    71/6 66 ok psllw +Ux,Ib sse2
    71/6 66 ok vpsllw =Hx,Ux,Ib avx 256:avx2
    72/2 np ok psrld +Nq,Ib mmx
    72/2 66 ok psrld +Ux,Ib sse2
    72/2 66 ok vpsrld =Hx,Ux,Ib avx 256:avx2
    72/4 np ok psrad +Nq,Ib mmx
    72/4 66 ok psrad +Ux,Ib sse2
    72/4 66 ok vpsrad =Hx,Ux,Ib avx 256:avx2
    72/6 np ok pslld +Nq,Ib mmx
    72/6 66 ok pslld +Ux,Ib sse2
    72/6 66 ok vpslld =Hx,Ux,Ib avx 256:avx2
    73/2 np ok psrlq +Nq,Ib mmx
    73/2 66 ok psrlq +Ux,Ib sse2
    73/2 66 ok vpsrlq =Hx,Ux,Ib avx 256:avx2
    73/3 66 ok psrldq +Ux,Ib sse2
    73/3 66 ok vpsrldq =Hx,Ux,Ib avx 256:avx2
    73/6 np ok psllq +Nq,Ib mmx
    73/6 66 ok psllq +Ux,Ib sse2
    73/6 66 ok vpsllq =Hx,Ux,Ib avx 256:avx2
    73/7 66 ok pslldq +Ux,Ib sse2
    73/7 66 ok vpslldq =Hx,Ux,Ib avx 256:avx2
    74 np ok pcmpeqb +Pq,Qq mmx
    74 66 ok (v)pcmpeqb *Vx,Hx,Wx sse2 256:avx2
    75 np ok pcmpeqw +Pq,Qq mmx
    75 66 ok (v)pcmpeqw *Vx,Hx,Wx sse2 256:avx2
    76 np ok pcmpeqd +Pq,Qq mmx
    76 66 ok (v)pcmpeqd *Vx,Hx,Wx sse2 256:avx2
    77 np ok emms - mmx
    77 np ok vzeroupper - avx L0
    77 np ok vzeroall - avx L1
    # VMX, SSE4a, horizontal arithmetic, moves
    78 np priv vmread =En,Gn vmx
    79 np priv vmwrite Gn,En vmx
    78/0 66 ok extrq +Ux,Ib,Ib sse4a
    78 f2 ok insertq +Vx,Ux,Ib,Ib sse4a
    79 66 ok extrq +Vx,Ux sse4a
    79 f2 ok insertq +Vx,Ux sse4a
    7C 66 ok (v)haddpd *Vx,Hx,Wx sse3
    7C f2 ok (v)haddps *Vx,Hx,Wx sse3
    7D 66 ok (v)hsubpd *Vx,Hx,Wx sse3
    7D f2 ok (v)hsubps *Vx,Hx,Wx sse3
    7E np ok movd =Ey,Pq mmx
    7E 66 ok (v)movd =Ey,Vdq sse2 L0
    7E f3 ok (v)movq =Vx,Wq sse2 L0
    7F np ok movq =Qq,Pq mmx
    7F 66 ok (v)movdqa =Wx,Vx sse2 aligned
    7F f3 ok (v)movdqu =Wx,Vx sse2 unaligned
    # Conditional branches and sets
    80+cc - jcc jCC Jz d64
    90+cc - ok setCC =Eb
    # Bits, shifts, group 15: state and cache lines
    A0 - sens push fs |push d64
    A1 - sens pop =fs |pop d64
    A2 - sens cpuid - |+eax,=ebx,+ecx,=edx
    A3 - ok bt Ev,Gv bits w:c u:osap
    A4 - ok shld ~Ev,Gv,Ib maybe w:cszp u:oa
    A5 - ok shld ~Ev,Gv,cl maybe w:cszp u:oa
    A6 f3 ud padlock - reg other
    A7 - ud padlock - reg other
    A8 - sens push gs |push d64
    A9 - sens pop =gs |pop d64
    AA - priv rsm - w:all
    AB - ok bts +Ev,Gv bits lock w:c u:osap
    AC - ok shrd ~Ev,Gv,Ib maybe w:cszp u:oa
    AD - ok shrd ~Ev,Gv,cl maybe w:cszp u:oa
    AE/0 f3 sens rdfsbase =Ry fsgsbase o64
    AE/1 f3 sens rdgsbase =Ry fsgsbase o64
    AE/2 f3 sens wrfsbase Ry fsgsbase o64
    AE/3 f3 sens wrgsbase Ry fsgsbase o64
    AE/0 np sens fxsave =Mfx fxsr
    AE/1 np sens fxrstor Mfx fxsr
    AE/2 np ok (v)ldmxcsr Md sse L0
    AE/3 np ok (v)stmxcsr =Md sse L0
    AE/4 np sens xsave +Mxs |eax,edx xsave
    AE/4 f3 ud ptwrite Ey other
    AE/5 np sens xrstor Mxs |eax,edx xsave
    AE/6 np sens xsaveopt +Mxs |eax,edx xsaveopt
    AE/7 np ok clflush Mb clflush
    AE/7 66 ok clflushopt Mb clflushopt
    AE/6 66 ok clwb Mb clwb
    AE/5 np ok lfence - sse2 reg
    AE/6 np ok mfence - sse2 reg
    AE/7 np ok sfence - sse reg
    AE/5 f3 ud incssp Ry cet
    AE/6 f3 ud clrssbsy +Mq cet
    AE/6 f3 ud umonitor - reg other
    AE/6 66 ud tpause - reg other
    AE/6 f2 ud umwait - reg other
    AF - ok imul +Gv,Ev w:oc u:szap
    # Compare and exchange, bits, extensions
    B0 - ok cmpxchg ~Eb,Gb |~al lock w:oszapc
    B1 - ok cmpxchg ~Ev,Gv |~rAX lock w:oszapc
    B2 - sens lss =Gv,Mp |=ss noW
    B3 - ok btr +Ev,Gv bits lock w:c u:osap
    B4 - sens lfs =Gv,Mp |=fs noW
    B5 - sens lgs =Gv,Mp |=gs noW
    B6 - ok movzx =Gv,Eb
    B7 - ok movzx =Gv,Ew
    B8 f3 ok popcnt =Gv,Ev popcnt w:z 0:oscap
    B9 - ud ud1 Gv,Ev
    BA/4 - ok bt Ev,Ib w:c u:osap
    BA/5 - ok bts +Ev,Ib lock w:c u:osap
    BA/6 - ok btr +Ev,Ib lock w:c u:osap
    BA/7 - ok btc +Ev,Ib lock w:c u:osap
    BB - ok btc +Ev,Gv bits lock w:c u:osap
    BC f3 ok tzcnt =Gv,Ev bmi1 w:zc u:osap
    BC - ok bsf ?Gv,Ev w:z u:oscap
    BD f3 ok lzcnt =Gv,Ev lzcnt w:zc u:osap
    BD - ok bsr ?Gv,Ev w:z u:oscap
    BE - ok movsx =Gv,Eb
    BF - ok movsx =Gv,Ew
    C0 - ok xadd +Eb,+Gb lock w:oszapc
    C1 - ok xadd +Ev,+Gv lock w:oszapc
    # Comparisons and shuffles, group 9
    C2 np ok (v)cmpps *Vx,Hx,Wx,Ib sse
    C2 66 ok (v)cmppd *Vx,Hx,Wx,Ib sse2
    C2 f3 ok (v)cmpss *Vx,Hx,Wd,Ib sse
    C2 f2 ok (v)cmpsd *Vx,Hx,Wq,Ib sse2
    C3 np ok movnti =My,Gy sse2
    C4 np ok pinsrw +Pq,Mw,Ib mmxext
    C4 np ok pinsrw +Pq,Rd,Ib mmxext
    C4 66 ok (v)pinsrw *Vdq,Hdq,Mw,Ib sse2 L0
    C4 66 ok (v)pinsrw *Vdq,Hdq,Rd,Ib sse2 L0
    C5 np ok pextrw =Gd,Nq,Ib mmxext
    C5 66 ok (v)pextrw =Gd,Udq,Ib sse2 L0
    C6 np ok (v)shufps *Vx,Hx,Wx,Ib sse
    C6 66 ok (v)shufpd *Vx,Hx,Wx,Ib sse2
    C7/1 - ok cmpxchg8b ~Mq |~edx,~eax,ecx,ebx lock w:z cx8 W0
    C7/1 - ok cmpxchg16b ~Mdq |~rdx,~rax,rcx,rbx lock w:z cx16 W1 aligned
    C7/3 np sens xrstors Mxs |eax,edx xsaves
    C7/4 np sens xsavec =Mxs |eax,edx xsavec
    C7/5 np sens xsaves =Mxs |eax,edx xsaves
    C7/6 np priv vmptrld Mq vmx
    C7/6 66 priv vmclear Mq vmx
    C7/6 f3 priv vmxon Mq vmx
    C7/7 np priv vmptrst =Mq vmx
    C7/6 nf sens rdrand =Rv rdrand w:c 0:oszap
    C7/7 f3 sens rdpid =Rn rdpid
    C7/7 nf sens rdseed =Rv rdseed w:c 0:oszap
    C7/6 f3 ud senduipi Rq other
    C8+r - ok bswap +Zv
    # Integer vectors
    D0 66 ok (v)addsubpd *Vx,Hx,Wx sse3
    D0 f2 ok (v)addsubps *Vx,Hx,Wx sse3
    D1 np ok psrlw +Pq,Qq mmx
    D1 66 ok (v)psrlw *Vx,Hx,Wdq sse2 256:avx2
    D2 np ok psrld +Pq,Qq mmx
    D2 66 ok (v)psrld *Vx,Hx,Wdq sse2 256:avx2
    D3 np ok psrlq +Pq,Qq mmx
    D3 66 ok (v)psrlq *Vx,Hx,Wdq sse2 256:avx2
    D4 np ok paddq +Pq,Qq sse2
    D4 66 ok (v)paddq *Vx,Hx,Wx sse2 256:avx2
    D5 np ok pmullw +Pq,Qq mmx
    D5 66 ok (v)pmullw *Vx,Hx,Wx sse2 256:avx2
    D6 66 ok (v)movq =Wq,Vx sse2 L0
    D6 f3 ok movq2dq =Vx,Nq sse2
    D6 f2 ok movdq2q =Pq,Ux sse2
    D7 np ok pmovmskb =Gd,Nq mmxext
    D7 66 ok (v)pmovmskb =Gd,Ux sse2 256:avx2
    D8 np ok psubusb +Pq,Qq mmx
    D8 66 ok (v)psubusb *Vx,Hx,Wx sse2 256:avx2
    D9 np ok psubusw +Pq,Qq mmx
    D9 66 ok (v)psubusw *Vx,Hx,Wx sse2 256:avx2
    DA np ok pminub +Pq,Qq mmxext
    DA 66 ok (v)pminub *Vx,Hx,Wx sse2 256:avx2
    DB np ok pand +Pq,Qq mmx
    DB 66 ok (v)pand *Vx,Hx,Wx sse2 256:avx2
    DC np ok paddusb +Pq,Qq mmx
    DC 66 ok (v)paddusb *Vx,Hx,Wx sse2 256:avx2
    DD np ok paddusw +Pq,Qq mmx
    DD 66 ok (v)paddusw *Vx,Hx,Wx sse2 256:avx2
    DE np ok pmaxub +Pq,Qq mmxext
    DE 66 ok (v)pmaxub *Vx,Hx,Wx sse2 256:avx2
    DF np ok pandn +Pq,Qq mmx
    DF 66 ok (v)pandn *Vx,Hx,Wx sse2 256:avx2
    E0 np ok pavgb +Pq,Qq mmxext
    E0 66 ok (v)pavgb *Vx,Hx,Wx sse2 256:avx2
    E1 np ok psraw +Pq,Qq mmx
    E1 66 ok (v)psraw *Vx,Hx,Wdq sse2 256:avx2
    E2 np ok psrad +Pq,Qq mmx
    E2 66 ok (v)psrad *Vx,Hx,Wdq sse2 256:avx2
    E3 np ok pavgw +Pq,Qq mmxext
    E3 66 ok (v)pavgw *Vx,Hx,Wx sse2 256:avx2
    E4 np ok pmulhuw +Pq,Qq mmxext
    E4 66 ok (v)pmulhuw *Vx,Hx,Wx sse2 256:avx2
    E5 np ok pmulhw +Pq,Qq mmx
    E5 66 ok (v)pmulhw *Vx,Hx,Wx sse2 256:avx2
    E6 66 ok (v)cvttpd2dq =Vdq,Wx sse2
    E6 f3 ok (v)cvtdq2pd =Vx,Wh sse2
    E6 f2 ok (v)cvtpd2dq =Vdq,Wx sse2
    E7 np ok movntq =Mq,Pq mmxext
    E7 66 ok (v)movntdq =Mx,Vx sse2 aligned
    E8 np ok psubsb +Pq,Qq mmx
    E8 66 ok (v)psubsb *Vx,Hx,Wx sse2 256:avx2
    E9 np ok psubsw +Pq,Qq mmx
    E9 66 ok (v)psubsw *Vx,Hx,Wx sse2 256:avx2
    EA np ok pminsw +Pq,Qq mmxext
    EA 66 ok (v)pminsw *Vx,Hx,Wx sse2 256:avx2
    EB np ok por +Pq,Qq mmx
    EB 66 ok (v)por *Vx,Hx,Wx sse2 256:avx2
    EC np ok paddsb +Pq,Qq mmx
    EC 66 ok (v)paddsb *Vx,Hx,Wx sse2 256:avx2
    ED np ok paddsw +Pq,Qq mmx
    ED 66 ok (v)paddsw *Vx,Hx,Wx sse2 256:avx2
    EE np ok pmaxsw +Pq,Qq mmxext
    EE 66 ok (v)pmaxsw *Vx,Hx,Wx sse2 256:avx2
    EF np ok pxor +Pq,Qq mmx
    EF 66 ok (v)pxor *Vx,Hx,Wx sse2 256:avx2
    F0 f2 ok (v)lddqu =Vx,Mx sse3 unaligned
    F1 np ok psllw +Pq,Qq mmx
    F1 66 ok (v)psllw *Vx,Hx,Wdq sse2 256:avx2
    F2 np ok pslld +Pq,Qq mmx
    F2 66 ok (v)pslld *Vx,Hx,Wdq sse2 256:avx2
    F3 np ok psllq +Pq,Qq mmx
    F3 66 ok (v)psllq *Vx,Hx,Wdq sse2 256:avx2
    F4 np ok pmuludq +Pq,Qq sse2
    F4 66 ok (v)pmuludq *Vx,Hx,Wx sse2 256:avx2
    F5 np ok pmaddwd +Pq,Qq mmx
    F5 66 ok (v)pmaddwd *Vx,Hx,Wx sse2 256:avx2
    F6 np ok psadbw +Pq,Qq mmxext
    F6 66 ok (v)psadbw *Vx,Hx,Wx sse2 256:avx2
    F7 np mem maskmovq Pq,Nq |?[DI]q mmxext
    F7 66 mem (v)maskmovdqu Vdq,Udq |?[DI]dq sse2 L0
    F8 np ok psubb +Pq,Qq mmx
    F8 66 ok (v)psubb *Vx,Hx,Wx sse2 256:avx2
    F9 np ok psubw +Pq,Qq mmx
    F9 66 ok (v)psubw *Vx,Hx,Wx sse2 256:avx2
    FA np ok psubd +Pq,Qq mmx
    FA 66 ok (v)psubd *Vx,Hx,Wx sse2 256:avx2
    FB np ok psubq +Pq,Qq sse2
    FB 66 ok (v)psubq *Vx,Hx,Wx sse2 256:avx2
    FC np ok paddb +Pq,Qq mmx
    FC 66 ok (v)paddb *Vx,Hx,Wx sse2 256:avx2
    FD np ok paddw +Pq,Qq mmx
    FD 66 ok (v)paddw *Vx,Hx,Wx sse2 256:avx2
    FE np ok paddd +Pq,Qq mmx
    FE 66 ok (v)paddd *Vx,Hx,Wx sse2 256:avx2
    FF - ud ud0 Gv,Ev
    """
}
