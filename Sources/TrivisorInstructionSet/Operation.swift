/// What an instruction does, by the manuals' mnemonics (AMD64 APM vol. 3 to 5): what everybody who looks at decoded
/// instructions switches on.
///
/// The legacy and the VEX form of an instruction are one operation (`Instruction.encoding` tells them apart), as are the
/// widths of a string instruction and the sixteen conditions of Jcc, SETcc and CMOVcc. What the manuals call MOV, PUSH and
/// POP is several operations where it moves a segment, control or debug register.
public enum Operation: UInt16, Sendable, BitwiseCopyable, CaseIterable {
  /// Bytes that no line of the table matches.
  case none
  case aaa, aad, aam, aas, adc, adcx, add, addpd, addps, addsd, addss, addsubpd, addsubps, adox, aesdec, aesdec128kl
  case aesdec256kl, aesdeclast, aesenc, aesenc128kl, aesenc256kl, aesenclast, aesencwide, aesimc, aeskeygenassist, and
  case andn, andnpd, andnps, andpd, andps, arpl, bextr, blendpd, blendps, blendvpd, blendvps, blsi, blsmsk, blsr
  case bound, bsf, bsr, bswap, bt, btc, btr, bts, bzhi, call, callf, cbw, cdq, cdqe, clac, clc, cld, clflush
  case clflushopt, clgi, cli, clrssbsy, clts, clui, clwb, clzero, cmc, cmovcc, cmp, cmppd, cmpps, cmps, cmpsd, cmpss
  case cmpxchg, cmpxchg16b, cmpxchg8b, comisd, comiss, cpuid, cqo, crc32, cvtdq2pd, cvtdq2ps, cvtpd2dq, cvtpd2pi
  case cvtpd2ps, cvtpi2pd, cvtpi2ps, cvtps2dq, cvtps2pd, cvtps2pi, cvtsd2si, cvtsd2ss, cvtsi2sd, cvtsi2ss, cvtss2sd
  case cvtss2si, cvttpd2dq, cvttpd2pi, cvttps2dq, cvttps2pi, cvttsd2si, cvttss2si, cwd, cwde, daa, das, dec, div
  case divpd, divps, divsd, divss, dppd, dpps, emms, encls, enclu, enclv, encodekey128, encodekey256, enqcmd, enqcmds
  case enter, extractps, extrq, f2xm1, fabs, fadd, faddp, fbld, fbstp, fchs, fcmovb, fcmovbe, fcmove, fcmovnb
  case fcmovnbe, fcmovne, fcmovnu, fcmovu, fcom, fcomi, fcomip, fcomp, fcompp, fcos, fdecstp, fdisi8087_nop, fdiv
  case fdivp, fdivr, fdivrp, femms, feni8087_nop, ffree, ffreep, fiadd, ficom, ficomp, fidiv, fidivr, fild, fimul
  case fincstp, fist, fistp, fisttp, fisub, fisubr, fld, fld1, fldcw, fldenv, fldl2e, fldl2t, fldlg2, fldln2, fldpi
  case fldz, fmul, fmulp, fnclex, fninit, fnop, fnsave, fnstcw, fnstenv, fnstsw, fpatan, fprem, fprem1, fptan, frndint
  case frstor, fscale, fsetpm287_nop, fsin, fsincos, fsqrt, fst, fstp, fstpnce, fsub, fsubp, fsubr, fsubrp, ftst
  case fucom, fucomi, fucomip, fucomp, fucompp, fwait, fxam, fxch, fxrstor, fxsave, fxtract, fyl2x, fyl2xp1, getsec
  case gf2p8affineinvqb, gf2p8affineqb, gf2p8mulb, haddpd, haddps, hlt, hreset, hsubpd, hsubps, idiv, imul, `in`, inc
  case incssp, ins, insertps, insertq, int, int1, int3, into, invd, invept, invlpg, invlpga, invlpgb, invpcid, invvpid
  case iret, jcc, jcxz, jmp, jmpf, lahf, lar, lddqu, ldmxcsr, lds, lea, leave, les, lfence, lfs, lgdt, lgs, lidt, lldt
  case lmsw, lods, loop, loope, loopne, lsl, lss, ltr, lzcnt, maskmovdqu, maskmovq, maxpd, maxps, maxsd, maxss
  case mcommit, mfence, minpd, minps, minsd, minss, monitor, monitorx, mov, movapd, movaps, movbe, movd, movddup
  case movdir64b, movdiri, movdq2q, movdqa, movdqu, movhlps, movhpd, movhps, movlhps, movlpd, movlps, movmskpd
  case movmskps, movntdq, movntdqa, movnti, movntpd, movntps, movntq, movntsd, movntss, movq, movq2dq, movs, movsd
  case movshdup, movsldup, movss, movsx, movsxd, movupd, movups, movzx, mpsadbw, mul, mulpd, mulps, mulsd, mulss, mulx
  case mwait, mwaitx, neg, nop, not, or, orpd, orps, out, outs, pabsb, pabsd, pabsw, packssdw, packsswb, packusdw
  case packuswb, paddb, paddd, paddq, paddsb, paddsw, paddusb, paddusw, paddw, padlock, palignr, pand, pandn, pause
  case pavgb, pavgw, pblendvb, pblendw, pclmulqdq, pcmpeqb, pcmpeqd, pcmpeqq, pcmpeqw, pcmpestri, pcmpestrm, pcmpgtb
  case pcmpgtd, pcmpgtq, pcmpgtw, pcmpistri, pcmpistrm, pconfig, pdep, pext, pextrb, pextrd, pextrw, phaddd, phaddsw
  case phaddw, phminposuw, phsubd, phsubsw, phsubw, pinsrb, pinsrd, pinsrw, pmaddubsw, pmaddwd, pmaxsb, pmaxsd, pmaxsw
  case pmaxub, pmaxud, pmaxuw, pminsb, pminsd, pminsw, pminub, pminud, pminuw, pmovmskb, pmovsxbd, pmovsxbq, pmovsxbw
  case pmovsxdq, pmovsxwd, pmovsxwq, pmovzxbd, pmovzxbq, pmovzxbw, pmovzxdq, pmovzxwd, pmovzxwq, pmuldq, pmulhrsw
  case pmulhuw, pmulhw, pmulld, pmullw, pmuludq, pop, popa, popcnt, popf, por, prefetch, prefetchnta, prefetcht0
  case prefetcht1, prefetcht2, prefetchw, psadbw, pshufb, pshufd, pshufhw, pshuflw, pshufw, psignb, psignd, psignw
  case pslld, pslldq, psllq, psllw, psmash, psrad, psraw, psrld, psrldq, psrlq, psrlw, psubb, psubd, psubq, psubsb
  case psubsw, psubusb, psubusw, psubw, ptest, ptwrite, punpckhbw, punpckhdq, punpckhqdq, punpckhwd, punpcklbw
  case punpckldq, punpcklqdq, punpcklwd, push, pusha, pushf, pvalidate, pxor, rcl, rcpps, rcpss, rcr, rdfsbase
  case rdgsbase, rdmsr, rdpid, rdpkru, rdpmc, rdpru, rdrand, rdseed, rdtsc, rdtscp, ret, retf, rmpadjust, rmpupdate
  case rol, ror, rorx, roundpd, roundps, roundsd, roundss, rsm, rsqrtps, rsqrtss, rstorssp, sahf, salc, sar, sarx
  case saveprevssp, sbb, scas, seamops, seamret, senduipi, serialize, setcc, setssbsy, sfence, sgdt, sha1msg1
  case sha1msg2, sha1nexte, sha1rnds4, sha256msg1, sha256msg2, sha256rnds2, shl, shld, shlx, shr, shrd, shrx, shufpd
  case shufps, sidt, skinit, sldt, smsw, sqrtpd, sqrtps, sqrtsd, sqrtss, stac, stc, std, stgi, sti, stmxcsr, stos, str
  case stui, sub, subpd, subps, subsd, subss, swapgs, syscall, sysenter, sysexit, sysret, tdcall, test, testui
  case tlbsync, tpause, tzcnt, ucomisd, ucomiss, ud0, ud1, ud2, uiret, umonitor, umwait, unpckhpd, unpckhps, unpcklpd
  case unpcklps, vblendvpd, vblendvps, vbroadcastf128, vbroadcasti128, vbroadcastsd, vbroadcastss, vcvtph2ps
  case vcvtps2ph, verr, verw, vextractf128, vextracti128, vfmadd132pd, vfmadd132ps, vfmadd132sd, vfmadd132ss
  case vfmadd213pd, vfmadd213ps, vfmadd213sd, vfmadd213ss, vfmadd231pd, vfmadd231ps, vfmadd231sd, vfmadd231ss
  case vfmaddsub132pd, vfmaddsub132ps, vfmaddsub213pd, vfmaddsub213ps, vfmaddsub231pd, vfmaddsub231ps, vfmsub132pd
  case vfmsub132ps, vfmsub132sd, vfmsub132ss, vfmsub213pd, vfmsub213ps, vfmsub213sd, vfmsub213ss, vfmsub231pd
  case vfmsub231ps, vfmsub231sd, vfmsub231ss, vfmsubadd132pd, vfmsubadd132ps, vfmsubadd213pd, vfmsubadd213ps
  case vfmsubadd231pd, vfmsubadd231ps, vfnmadd132pd, vfnmadd132ps, vfnmadd132sd, vfnmadd132ss, vfnmadd213pd
  case vfnmadd213ps, vfnmadd213sd, vfnmadd213ss, vfnmadd231pd, vfnmadd231ps, vfnmadd231sd, vfnmadd231ss, vfnmsub132pd
  case vfnmsub132ps, vfnmsub132sd, vfnmsub132ss, vfnmsub213pd, vfnmsub213ps, vfnmsub213sd, vfnmsub213ss, vfnmsub231pd
  case vfnmsub231ps, vfnmsub231sd, vfnmsub231ss, vgatherdpd, vgatherdps, vgatherqpd, vgatherqps, vgf2p8affineinvqb
  case vgf2p8affineqb, vgf2p8mulb, vinsertf128, vinserti128, vmaskmovpd, vmaskmovps, vmcall, vmclear, vmfunc, vmlaunch
  case vmload, vmmcall, vmptrld, vmptrst, vmread, vmresume, vmrun, vmsave, vmwrite, vmxoff, vmxon, vpblendd, vpblendvb
  case vpbroadcastb, vpbroadcastd, vpbroadcastq, vpbroadcastw, vperm2f128, vperm2i128, vpermd, vpermilpd, vpermilps
  case vpermpd, vpermps, vpermq, vpgatherdd, vpgatherdq, vpgatherqd, vpgatherqq, vpmaskmovd, vpmaskmovq, vpslld
  case vpslldq, vpsllq, vpsllvd, vpsllvq, vpsllw, vpsrad, vpsravd, vpsraw, vpsrld, vpsrldq, vpsrlq, vpsrlvd, vpsrlvq
  case vpsrlw, vtestpd, vtestps, vzeroall, vzeroupper, wbinvd, wrfsbase, wrgsbase, wrmsr, wrmsrns, wrpkru, wrss, wruss
  case xabort, xadd, xbegin, xchg, xend, xgetbv, xlat, xor, xorpd, xorps, xresldtrk, xrstor, xrstors, xsave, xsavec
  case xsaveopt, xsaves, xsetbv, xsusldtrk, xtest
  /// MOV r/m, Sreg and back.
  case movFromSegment, movToSegment
  /// MOV r, CRn and back.
  case movFromControl, movToControl
  /// MOV r, DRn and back.
  case movFromDebug, movToDebug
  /// PUSH and POP of a segment register.
  case pushSegment, popSegment

  /// The names of the cases in their order, as the opcode table spells them.
  static let words: StaticString = """
    none aaa aad aam aas adc adcx add addpd addps addsd addss addsubpd addsubps adox aesdec aesdec128kl aesdec256kl \
    aesdeclast aesenc aesenc128kl aesenc256kl aesenclast aesencwide aesimc aeskeygenassist and andn andnpd andnps \
    andpd andps arpl bextr blendpd blendps blendvpd blendvps blsi blsmsk blsr bound bsf bsr bswap bt btc btr bts \
    bzhi call callf cbw cdq cdqe clac clc cld clflush clflushopt clgi cli clrssbsy clts clui clwb clzero cmc cmovcc \
    cmp cmppd cmpps cmps cmpsd cmpss cmpxchg cmpxchg16b cmpxchg8b comisd comiss cpuid cqo crc32 cvtdq2pd cvtdq2ps \
    cvtpd2dq cvtpd2pi cvtpd2ps cvtpi2pd cvtpi2ps cvtps2dq cvtps2pd cvtps2pi cvtsd2si cvtsd2ss cvtsi2sd cvtsi2ss \
    cvtss2sd cvtss2si cvttpd2dq cvttpd2pi cvttps2dq cvttps2pi cvttsd2si cvttss2si cwd cwde daa das dec div divpd \
    divps divsd divss dppd dpps emms encls enclu enclv encodekey128 encodekey256 enqcmd enqcmds enter extractps \
    extrq f2xm1 fabs fadd faddp fbld fbstp fchs fcmovb fcmovbe fcmove fcmovnb fcmovnbe fcmovne fcmovnu fcmovu fcom \
    fcomi fcomip fcomp fcompp fcos fdecstp fdisi8087_nop fdiv fdivp fdivr fdivrp femms feni8087_nop ffree ffreep \
    fiadd ficom ficomp fidiv fidivr fild fimul fincstp fist fistp fisttp fisub fisubr fld fld1 fldcw fldenv fldl2e \
    fldl2t fldlg2 fldln2 fldpi fldz fmul fmulp fnclex fninit fnop fnsave fnstcw fnstenv fnstsw fpatan fprem fprem1 \
    fptan frndint frstor fscale fsetpm287_nop fsin fsincos fsqrt fst fstp fstpnce fsub fsubp fsubr fsubrp ftst fucom \
    fucomi fucomip fucomp fucompp fwait fxam fxch fxrstor fxsave fxtract fyl2x fyl2xp1 getsec gf2p8affineinvqb \
    gf2p8affineqb gf2p8mulb haddpd haddps hlt hreset hsubpd hsubps idiv imul in inc incssp ins insertps insertq int \
    int1 int3 into invd invept invlpg invlpga invlpgb invpcid invvpid iret jcc jcxz jmp jmpf lahf lar lddqu ldmxcsr \
    lds lea leave les lfence lfs lgdt lgs lidt lldt lmsw lods loop loope loopne lsl lss ltr lzcnt maskmovdqu \
    maskmovq maxpd maxps maxsd maxss mcommit mfence minpd minps minsd minss monitor monitorx mov movapd movaps movbe \
    movd movddup movdir64b movdiri movdq2q movdqa movdqu movhlps movhpd movhps movlhps movlpd movlps movmskpd \
    movmskps movntdq movntdqa movnti movntpd movntps movntq movntsd movntss movq movq2dq movs movsd movshdup \
    movsldup movss movsx movsxd movupd movups movzx mpsadbw mul mulpd mulps mulsd mulss mulx mwait mwaitx neg nop \
    not or orpd orps out outs pabsb pabsd pabsw packssdw packsswb packusdw packuswb paddb paddd paddq paddsb paddsw \
    paddusb paddusw paddw padlock palignr pand pandn pause pavgb pavgw pblendvb pblendw pclmulqdq pcmpeqb pcmpeqd \
    pcmpeqq pcmpeqw pcmpestri pcmpestrm pcmpgtb pcmpgtd pcmpgtq pcmpgtw pcmpistri pcmpistrm pconfig pdep pext pextrb \
    pextrd pextrw phaddd phaddsw phaddw phminposuw phsubd phsubsw phsubw pinsrb pinsrd pinsrw pmaddubsw pmaddwd \
    pmaxsb pmaxsd pmaxsw pmaxub pmaxud pmaxuw pminsb pminsd pminsw pminub pminud pminuw pmovmskb pmovsxbd pmovsxbq \
    pmovsxbw pmovsxdq pmovsxwd pmovsxwq pmovzxbd pmovzxbq pmovzxbw pmovzxdq pmovzxwd pmovzxwq pmuldq pmulhrsw \
    pmulhuw pmulhw pmulld pmullw pmuludq pop popa popcnt popf por prefetch prefetchnta prefetcht0 prefetcht1 \
    prefetcht2 prefetchw psadbw pshufb pshufd pshufhw pshuflw pshufw psignb psignd psignw pslld pslldq psllq psllw \
    psmash psrad psraw psrld psrldq psrlq psrlw psubb psubd psubq psubsb psubsw psubusb psubusw psubw ptest ptwrite \
    punpckhbw punpckhdq punpckhqdq punpckhwd punpcklbw punpckldq punpcklqdq punpcklwd push pusha pushf pvalidate \
    pxor rcl rcpps rcpss rcr rdfsbase rdgsbase rdmsr rdpid rdpkru rdpmc rdpru rdrand rdseed rdtsc rdtscp ret retf \
    rmpadjust rmpupdate rol ror rorx roundpd roundps roundsd roundss rsm rsqrtps rsqrtss rstorssp sahf salc sar sarx \
    saveprevssp sbb scas seamops seamret senduipi serialize setcc setssbsy sfence sgdt sha1msg1 sha1msg2 sha1nexte \
    sha1rnds4 sha256msg1 sha256msg2 sha256rnds2 shl shld shlx shr shrd shrx shufpd shufps sidt skinit sldt smsw \
    sqrtpd sqrtps sqrtsd sqrtss stac stc std stgi sti stmxcsr stos str stui sub subpd subps subsd subss swapgs \
    syscall sysenter sysexit sysret tdcall test testui tlbsync tpause tzcnt ucomisd ucomiss ud0 ud1 ud2 uiret \
    umonitor umwait unpckhpd unpckhps unpcklpd unpcklps vblendvpd vblendvps vbroadcastf128 vbroadcasti128 \
    vbroadcastsd vbroadcastss vcvtph2ps vcvtps2ph verr verw vextractf128 vextracti128 vfmadd132pd vfmadd132ps \
    vfmadd132sd vfmadd132ss vfmadd213pd vfmadd213ps vfmadd213sd vfmadd213ss vfmadd231pd vfmadd231ps vfmadd231sd \
    vfmadd231ss vfmaddsub132pd vfmaddsub132ps vfmaddsub213pd vfmaddsub213ps vfmaddsub231pd vfmaddsub231ps \
    vfmsub132pd vfmsub132ps vfmsub132sd vfmsub132ss vfmsub213pd vfmsub213ps vfmsub213sd vfmsub213ss vfmsub231pd \
    vfmsub231ps vfmsub231sd vfmsub231ss vfmsubadd132pd vfmsubadd132ps vfmsubadd213pd vfmsubadd213ps vfmsubadd231pd \
    vfmsubadd231ps vfnmadd132pd vfnmadd132ps vfnmadd132sd vfnmadd132ss vfnmadd213pd vfnmadd213ps vfnmadd213sd \
    vfnmadd213ss vfnmadd231pd vfnmadd231ps vfnmadd231sd vfnmadd231ss vfnmsub132pd vfnmsub132ps vfnmsub132sd \
    vfnmsub132ss vfnmsub213pd vfnmsub213ps vfnmsub213sd vfnmsub213ss vfnmsub231pd vfnmsub231ps vfnmsub231sd \
    vfnmsub231ss vgatherdpd vgatherdps vgatherqpd vgatherqps vgf2p8affineinvqb vgf2p8affineqb vgf2p8mulb vinsertf128 \
    vinserti128 vmaskmovpd vmaskmovps vmcall vmclear vmfunc vmlaunch vmload vmmcall vmptrld vmptrst vmread vmresume \
    vmrun vmsave vmwrite vmxoff vmxon vpblendd vpblendvb vpbroadcastb vpbroadcastd vpbroadcastq vpbroadcastw \
    vperm2f128 vperm2i128 vpermd vpermilpd vpermilps vpermpd vpermps vpermq vpgatherdd vpgatherdq vpgatherqd \
    vpgatherqq vpmaskmovd vpmaskmovq vpslld vpslldq vpsllq vpsllvd vpsllvq vpsllw vpsrad vpsravd vpsraw vpsrld \
    vpsrldq vpsrlq vpsrlvd vpsrlvq vpsrlw vtestpd vtestps vzeroall vzeroupper wbinvd wrfsbase wrgsbase wrmsr wrmsrns \
    wrpkru wrss wruss xabort xadd xbegin xchg xend xgetbv xlat xor xorpd xorps xresldtrk xrstor xrstors xsave xsavec \
    xsaveopt xsaves xsetbv xsusldtrk xtest movFromSegment movToSegment movFromControl movToControl movFromDebug \
    movToDebug pushSegment popSegment
    """
}
